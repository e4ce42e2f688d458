"""Parquet, read strictly and in blocks: types are part of the schema."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bc_pipeline.errors import Defect, FileRefused, SchemaMismatch
from bc_pipeline.schema import ID_COLUMN, FeatureSchema, Labels
from bc_pipeline.tables.blocks import Block, TableReader
from bc_pipeline.tables.columns import Columns, named_columns
from bc_pipeline.tables.lines import refusal
from bc_pipeline.tables.places import Openable

MAGIC = b"PAR1"
_PAGE_BUFFER = 1 << 16


class ParquetReader(TableReader):
    """A Parquet file, opened: its columns and their types fit the schema."""

    dialect = "parquet"

    def __init__(
        self,
        source: Openable,
        schema: FeatureSchema,
        labels: Labels | None,
        *,
        read_labels: bool,
        block_bytes: int,
    ) -> None:
        self.source = source.name
        self.rows_read = 0
        self.bytes_done = 0
        self._schema = schema
        self._labels = labels
        self._batch_rows = max(1, block_bytes // (8 * len(schema.features)))
        # The footer is read first and the rows out of order: the digest takes a pass of its
        # own, over the same open file.
        self._stream = source.open("rb")
        try:
            self.bytes_total = self._stream.seek(0, os.SEEK_END)
            self._stream.seek(0)
            self._sha256 = hashlib.file_digest(self._stream, "sha256").hexdigest()
            self._file, self._columns = self._open(read_labels)
        except BaseException:
            self._stream.close()
            raise
        self.has_ids = self._columns.identifier is not None

    @property
    def sha256(self) -> str:
        return self._sha256

    def close(self) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Block]:
        import pyarrow as pa

        positions = {
            position
            for position in (
                *self._columns.features,
                self._columns.identifier,
                self._columns.label,
            )
            if position is not None
        }
        names = self._file.schema_arrow.names
        batches = self._file.iter_batches(
            batch_size=self._batch_rows,
            columns=[names[position] for position in sorted(positions)],
            use_threads=False,
        )
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise self._truncated() from error
            if batch is None:
                return
            if batch.num_rows:
                yield self._block(batch, names)

    def _open(self, read_labels: bool) -> tuple[Any, Columns]:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            # A row group may be as large as the file: read it page by page.
            file = parquet.ParquetFile(self._stream, buffer_size=_PAGE_BUFFER, pre_buffer=False)
            fields = list(file.schema_arrow)
        except (pa.ArrowException, OSError):
            raise self._truncated() from None
        if not file.metadata.num_rows:
            raise refusal(self.source, "has no rows")
        columns = named_columns(
            [field.name for field in fields],
            self._schema,
            self._labels,
            read_labels=read_labels,
            source=self.source,
        )
        defects = [
            Defect(f"holds {fields[position].type}, not numbers", column=name)
            for name, position in zip(self._schema.names, columns.features, strict=True)
            if not _is_number(fields[position].type)
        ]
        for position, name in (
            (columns.identifier, ID_COLUMN),
            (columns.label, self._labels.column if self._labels else ""),
        ):
            if position is not None and not _is_word(fields[position].type):
                kind = fields[position].type
                defects.append(Defect(f"holds {kind}, not text or whole numbers", column=name))
        if defects:
            raise SchemaMismatch(
                f"{self.source} does not have the expected types.",
                source=self.source,
                defects=tuple(defects),
            )
        return file, replace(columns, dialect="parquet")

    def _truncated(self) -> FileRefused:
        return refusal(self.source, "is a truncated or damaged Parquet file", "Send it again.")

    def _block(self, batch: Any, names: list[str]) -> Block:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from bc_pipeline.tables.checks import RowFaults, make_block, read_codes, read_ids
        from bc_pipeline.tables.numbers import EMPTY, NOT_A_NUMBER, NOT_FINITE

        count = batch.num_rows
        rows = np.arange(count)
        faults = RowFaults()
        values = np.empty((count, len(self._columns.features)))
        for index, position in enumerate(self._columns.features):
            cells = batch.column(names[position])
            column = pc.cast(cells, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            empty = cells.is_null().to_numpy(zero_copy_only=False)
            infinite = np.isinf(column)
            name = self._schema.names[index]
            faults.add(rows[empty], name, EMPTY)
            faults.add(rows[infinite], name, NOT_FINITE)
            faults.add(rows[np.isnan(column) & ~empty], name, NOT_A_NUMBER)
            values[:, index] = np.where(infinite, np.nan, column)

        def text(position: int) -> Any:
            return pc.cast(batch.column(names[position]), pa.string())

        ids: list[str | None] = [None] * count
        if self._columns.identifier is not None:
            ids = read_ids(text(self._columns.identifier), rows, faults)
        codes = None
        if self._columns.label is not None and self._labels is not None:
            codes = read_codes(text(self._columns.label), rows, self._labels, faults)
        lines = rows.astype(np.int64) + self.rows_read + 1
        block = make_block(self._schema, lines, ids, values, codes, faults)
        self.rows_read += count
        self.bytes_done = self.bytes_total * self.rows_read // self._file.metadata.num_rows
        return block


def _is_number(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_floating(kind) or types.is_integer(kind))


def _is_word(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind))
