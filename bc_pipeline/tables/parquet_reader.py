"""Parquet, read strictly and in blocks; the types of the columns must fit the schema.

A small file can unpack to any size: the metadata, a page of a column, or one text that all rows
refer to. Metadata and column chunks beyond a limit are refused, and texts are cut before they are
repeated for each row, so that memory depends on the size of a block and of the file only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bc_pipeline.errors import Defect, FileRefused, SchemaMismatch
from bc_pipeline.names import ID_COLUMN, MAX_ID_LENGTH
from bc_pipeline.tables.arrow_arrays import numbers_of
from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.checks import RowDefects
from bc_pipeline.tables.columns import ColumnFinder, Columns
from bc_pipeline.tables.lines import refusal
from bc_pipeline.tables.locations import Openable
from bc_pipeline.tables.numbers import EMPTY, NOT_A_NUMBER, NOT_FINITE
from bc_pipeline.tables.spare_columns import spare_defect
from bc_pipeline.tables.table_reader import TableReader

_PAGE_BUFFER = 1 << 16
_FOOTER_BYTES = 8 << 20
_MAGIC_BYTES = 4
# A page of a column is unpacked as a whole and may be as large as its column chunk. A larger chunk
# may unpack to so many times its size.
_CHUNK_BYTES = 16 << 20
_CHUNK_RATIO = 20
# Longer texts are no id and no label; so much of one is left that this is found.
_TEXT_CHARACTERS = MAX_ID_LENGTH + 1
# A row group may be as large as the file, so it is read page by page.
_BY_PAGE: dict[str, Any] = {"buffer_size": _PAGE_BUFFER, "pre_buffer": False}


class ParquetReader(TableReader):
    """An open Parquet file whose columns and their types fit the schema."""

    def __init__(self, source: Openable, finder: ColumnFinder, block_bytes: int) -> None:
        super().__init__(finder)
        self._batch_rows = max(1, block_bytes // (8 * len(finder.schema.features)))
        # Parquet is not read from start to end, so the digest needs a pass of its own over the
        # same open file.
        self._stream = source.open("rb")
        try:
            self.bytes_total = self._stream.seek(0, os.SEEK_END)
            self._stream.seek(0)
            self._sha256 = hashlib.file_digest(self._stream, "sha256").hexdigest()
            self._file, self.columns = self._open()
        except BaseException:
            self._stream.close()
            raise

    @property
    def sha256(self) -> str:
        return self._sha256

    def close(self) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Block]:
        import pyarrow as pa

        names = self._file.schema_arrow.names
        columns = self.columns
        batches = self._file.iter_batches(
            batch_size=self._batch_rows,
            columns=[names[position] for position in (*columns.features.values(), *columns.texts)],
            use_threads=False,
        )
        try:
            for batch in batches:
                if batch.num_rows:
                    yield self._block(batch, names)
        except (pa.ArrowException, OSError) as error:
            raise self._truncated() from error

    def _open(self) -> tuple[Any, Columns]:
        import pyarrow as pa
        from pyarrow import parquet

        self._check_footer()
        try:
            file = parquet.ParquetFile(self._stream, **_BY_PAGE)
            fields = list(file.schema_arrow)
        except (pa.ArrowException, OSError):
            raise self._truncated() from None
        if not file.metadata.num_rows:
            raise refusal(self.source, "has no rows")
        columns = self._finder.find_by_name([field.name for field in fields])
        self._check_types(fields, columns)
        positions = (*columns.features.values(), *columns.texts)
        self._check_chunks(file.metadata, [fields[place].name for place in positions])
        texts = [
            fields[place].name for place in columns.texts if not _is_number(fields[place].type)
        ]
        # Each distinct text is stored once in a dictionary, instead of once for each row.
        file = parquet.ParquetFile(
            self._stream, metadata=file.metadata, read_dictionary=texts, **_BY_PAGE
        )
        if columns.spare:
            columns = self._examine_spare(file, columns)
        return file, replace(columns, dialect="parquet")

    def _check_types(self, fields: list[Any], columns: Columns) -> None:
        """Refuse columns of another type than their content has."""
        labels = self._finder.labels
        defects = [
            Defect(
                f"holds {_type_text(fields[position].type)}, not numbers",
                column=self._finder.schema.names[number],
            )
            for number, position in columns.features.items()
            if not _is_number(fields[position].type)
        ]
        defects += [
            Defect(
                f"holds {_type_text(fields[position].type)}, not text or whole numbers", column=name
            )
            for position, name, fits in (
                (columns.identifier, ID_COLUMN, _is_text_or_integer),
                (columns.label, labels.column if labels else "", _is_text_or_number),
                *((place, name, _is_text_or_integer) for name, place in columns.metadata.items()),
            )
            if position is not None and not fits(fields[position].type)
        ]
        defects += [
            Defect(spare_defect(position))
            for position in columns.spare
            if not _may_be_spare(fields[position].type)
        ]
        if columns.spare and len({field.name for field in fields}) < len(fields):
            raise refusal(self.source, "has several columns of one name")
        if defects:
            raise SchemaMismatch(
                f"{self.source} does not have the expected types.",
                source=self.source,
                defects=tuple(defects),
            )

    def _check_footer(self) -> None:
        """Refuse large metadata before it is parsed: its objects take many times its bytes."""
        if self.bytes_total < 2 * _MAGIC_BYTES:
            return
        self._stream.seek(-2 * _MAGIC_BYTES, os.SEEK_END)
        size = int.from_bytes(self._stream.read(_MAGIC_BYTES), "little")
        self._stream.seek(0)
        # A greater one is no size: the file is damaged.
        if _FOOTER_BYTES < size < self.bytes_total:
            raise refusal(
                self.source,
                f"has {size} bytes of metadata; {_FOOTER_BYTES} is the maximum",
                "Write it with fewer columns, or larger row groups.",
            )

    def _check_chunks(self, metadata: Any, names: list[str]) -> None:
        """Refuse columns that unpack to many times their size."""
        schema = metadata.schema
        leaves = {schema.column(leaf).path: leaf for leaf in range(metadata.num_columns)}
        positions = [leaves[name] for name in names]
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for position in positions:
                chunk = row_group.column(position)
                size = chunk.total_uncompressed_size
                if size > max(_CHUNK_BYTES, _CHUNK_RATIO * chunk.total_compressed_size):
                    raise refusal(
                        self.source,
                        f"column {position + 1} unpacks to over {_CHUNK_RATIO} times its size, "
                        f"{size} bytes",
                        "Write it with smaller row groups, or as CSV.",
                    )

    def _examine_spare(self, file: Any, columns: Columns) -> Columns:
        names = file.schema_arrow.names
        spare = [names[position] for position in columns.spare]
        first = next(file.iter_batches(batch_size=self._batch_rows, columns=spare))
        cells = {place: _filled_text(first.column(names[place])) for place in columns.spare}
        return self.examine_spare(columns, cells, np.arange(first.num_rows))

    def _truncated(self) -> FileRefused:
        return refusal(self.source, "is a truncated or damaged Parquet file", "Send it again.")

    def _block(self, batch: Any, names: list[str]) -> Block:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = np.arange(batch.num_rows, dtype=np.int64)
        defects = RowDefects()
        # Column by column, as Arrow has them and the checks go through them.
        values = np.full((len(self._finder.schema.features), len(rows)), np.nan).T
        for index, position in self.columns.features.items():
            cells = batch.column(names[position])
            column = numbers_of(pc.cast(cells, pa.float64(), safe=False))
            values[:, index] = column
            if not cells.null_count and np.isfinite(column).all():
                continue
            empty = cells.is_null().to_numpy(zero_copy_only=False)
            infinite = np.isinf(column)
            feature = self._finder.schema.features[index]
            defects.add(rows[infinite], feature.name, NOT_FINITE)
            if not feature.optional:
                defects.add(rows[empty], feature.name, EMPTY)
                defects.add(rows[np.isnan(column) & ~empty], feature.name, NOT_A_NUMBER)
            values[infinite, index] = np.nan
        text = {
            position: _short_text(batch.column(names[position]))
            for position in self.columns.texts
            if position not in self.columns.spare
        }
        spare = {place: _filled_text(batch.column(names[place])) for place in self.columns.spare}
        self.add_spare_defects(spare, rows, defects)
        block = self._make_block(rows + self.rows_read + 1, rows, values, text, defects)
        self.bytes_done = self.bytes_total * self.rows_read // self._file.metadata.num_rows
        return block


def _short_text(cells: Any) -> Any:
    """Cells as text; one that is too long for an id is cut, and still too long."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(cells.type):
        cells = pc.if_else(pc.is_nan(cells), None, cells)
    if not pa.types.is_dictionary(cells.type):
        return pc.cast(cells, pa.string())
    texts, indices = cells.dictionary, cells.indices
    if len(texts) > len(indices):
        # It has the texts of all rows so far: only those of this batch are looked at.
        present = pc.unique(indices.drop_null())
        texts, indices = texts.take(present), pc.index_in(indices, present)
    if not pa.types.is_integer(texts.type):
        texts = pc.utf8_slice_codeunits(texts, 0, _TEXT_CHARACTERS)
    return pc.take(pc.cast(texts, pa.string()), indices)


def _filled_text(cells: Any) -> Any:
    return _short_text(cells).fill_null("")


def _is_number(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_floating(kind) or types.is_integer(kind))


def _type_text(kind: Any) -> str:
    """A type as Arrow words it, without names of nested fields, which are content of the file."""
    import pyarrow.types as types

    return "nested values" if types.is_nested(kind) else str(kind)


def _may_be_spare(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_null(kind)) or _is_text_or_number(kind)


def _is_text_or_number(kind: Any) -> bool:
    import pyarrow.types as types

    # pandas stores codes as floats where one is missing.
    return bool(types.is_floating(kind)) or _is_text_or_integer(kind)


def _is_text_or_integer(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind))
