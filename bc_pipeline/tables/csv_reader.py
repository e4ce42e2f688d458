"""CSV of any dialect, read strictly and in blocks.

Lines are cut and checked first (`bc_pipeline.tables.lines`), so that a row is one physical
line and its number is exact. Arrow then splits and converts a chunk at a time, straight to
float64; a chunk in which a cell does not convert is read again as text, to say which.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from bc_pipeline.schema import FeatureSchema, Labels
from bc_pipeline.tables.blocks import NO_CODE, Block, TableReader
from bc_pipeline.tables.columns import (
    Columns,
    headerless_columns,
    known_names,
    looks_headerless,
    named_columns,
)
from bc_pipeline.tables.lines import Chunk, LineSource, check_quotes, refusal
from bc_pipeline.tables.places import Openable

if TYPE_CHECKING:
    import numpy as np

    from bc_pipeline.tables.checks import RowFaults
    from bc_pipeline.tables.parts import Part
    from bc_pipeline.tables.rows import Kind, SplitRows

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class CsvReader(TableReader):
    """A CSV file, opened: its header is known and it has at least one row.

    Parameters
    ----------
    part : Part, optional
        What is read of the file; the whole of it unless told.
    columns : Columns, optional
        Those of the file, for a part that has no header.
    """

    def __init__(
        self,
        source: Openable,
        schema: FeatureSchema,
        labels: Labels | None,
        *,
        read_labels: bool,
        block_bytes: int,
        part: Part | None = None,
        columns: Columns | None = None,
    ) -> None:
        self.source = source.name
        self.rows_read = 0
        self._schema = schema
        self._labels = labels
        self._lines = LineSource(source, block_bytes, part)
        try:
            self.bytes_total = self._lines.bytes_total
            self._chunks = self._lines.chunks()
            self._first: Chunk | None = None
            if columns is None:
                columns, self._first = self._open(read_labels)
            self.columns = columns
        except BaseException:
            self._lines.close()
            raise
        self.dialect = self.columns.dialect
        self.has_ids = self.columns.identifier is not None
        self.bytes_done = 0

    @property
    def sha256(self) -> str:
        return self._lines.sha256

    def close(self) -> None:
        self._lines.close()

    def __iter__(self) -> Iterator[Block]:
        if self._first is not None:
            yield self._block(self._first)
        for chunk in self._chunks:
            yield self._block(chunk)
        self.bytes_done = self._lines.bytes_done

    def _open(self, read_labels: bool) -> tuple[Columns, Chunk]:
        """Columns, and the first chunk of rows."""
        chunk = next(self._chunks, None)
        if chunk is None:
            raise refusal(self.source, "is empty")
        blank = 0
        while chunk.ends[0] == 0:
            # Blank lines above the header are counted and passed over.
            chunk, blank = chunk.split_first()[1], blank + 1
        header, rest = chunk.split_first()
        cells = self._cells(header, chunk)
        if looks_headerless(cells, self._schema, self._labels):
            return self._columns_of(headerless_columns, cells, read_labels), chunk
        columns = self._columns_of(named_columns, cells, read_labels)
        first = rest if len(rest) else next(self._chunks, None)
        if first is None:
            raise refusal(self.source, "has a header and no rows")
        return self._fit_unnamed(columns, first), first

    def _cells(self, header: bytes, chunk: Chunk) -> list[str]:
        """Cells of the first line, once it is sure that commas separate them."""
        text = header.decode()
        cells = [cell.strip() for cell in text.split(",")]
        if known_names([cell.strip('"') for cell in cells], self._schema, self._labels) == 0:
            enough = max(1, len(self._schema.features) - 1)
            for mark, word in _SEPARATORS.items():
                if text.count(mark) >= enough:
                    raise refusal(
                        self.source,
                        f"separates its fields by {word}",
                        "Write it with commas between fields and dots in numbers.",
                        chunk.first_line,
                    )
        check_quotes(Chunk(header + b"\n", chunk.first_line, chunk.ends[:1]), self.source)
        return [cell.strip() for cell in next(csv.reader([text], strict=True))]

    def _columns_of(
        self, find: Callable[..., Columns], cells: list[str], read_labels: bool
    ) -> Columns:
        return find(cells, self._schema, self._labels, read_labels=read_labels, source=self.source)

    def _fit_unnamed(self, columns: Columns, first: Chunk) -> Columns:
        """Kaggle's header ends in a comma, its rows may or may not: the first row tells."""
        if columns.unnamed is None:
            return columns
        row = next(csv.reader([first.split_first()[0].decode()]), [])
        if len(row) != columns.width - 1:
            return columns
        return replace(columns, width=columns.width - 1, unnamed=None)

    def _block(self, chunk: Chunk) -> Block:
        import numpy as np

        from bc_pipeline.tables.checks import RowFaults, make_block, read_codes, read_ids

        check_quotes(chunk, self.source)
        columns, count = self.columns, len(chunk)
        faults = RowFaults()
        values = np.full((count, len(columns.features)), np.nan)
        split = self._values(chunk, values, faults)
        for row, reason in split.others.items():
            faults.add_unreadable(row, reason)
        ids: list[str | None] = [None] * count
        if columns.identifier is not None:
            found = read_ids(split.columns[columns.identifier], split.rows, faults)
            if len(found) == count:
                ids = found
            else:
                for row, identifier in zip(split.rows.tolist(), found, strict=True):
                    ids[row] = identifier
        codes = None
        if columns.label is not None and self._labels is not None:
            codes = np.full(count, NO_CODE, dtype=np.int64)
            codes[split.rows] = read_codes(
                split.columns[columns.label], split.rows, self._labels, faults
            )
        lines = np.arange(chunk.first_line, chunk.first_line + count, dtype=np.int64)
        block = make_block(self._schema, lines, ids, values, codes, faults)
        self.rows_read += count
        self.bytes_done = self._lines.bytes_done
        return block

    def _values(self, chunk: Chunk, values: np.ndarray, faults: RowFaults) -> SplitRows:
        """Split the chunk, fill the values of its rows and note the cells that are none."""
        import numpy as np
        import pyarrow as pa

        from bc_pipeline.tables.rows import split_rows

        columns = self.columns
        text: dict[int, Kind] = {
            position: "text"
            for position in (columns.identifier, columns.label, columns.unnamed)
            if position is not None
        }
        numbers: dict[int, Kind] = dict.fromkeys(columns.features, "number")
        try:
            split = split_rows(chunk, columns.width, text | numbers, self.source)
            rows = slice(None) if len(split.rows) == len(chunk) else split.rows
            for index, position in enumerate(columns.features):
                values[rows, index] = split.columns[position].to_numpy()
            readable = bool(np.isfinite(values[rows]).all())
        except pa.ArrowInvalid:
            readable = False
        if not readable:
            as_text: dict[int, Kind] = dict.fromkeys(columns.features, "text")
            split = split_rows(chunk, columns.width, text | as_text, self.source)
            self._read_text(split, values, faults)
        if columns.unnamed is not None:
            filled = split.columns[columns.unnamed].to_numpy(zero_copy_only=False) != ""
            faults.add(split.rows[filled], None, "has text in the last column, which has no name")
        return split

    def _read_text(self, split: SplitRows, values: np.ndarray, faults: RowFaults) -> None:
        """Fill the values from cells of text, some of which are no numbers."""
        import numpy as np
        import pyarrow as pa

        from bc_pipeline.tables.numbers import parse_numbers, plain_numbers

        doubtful = []
        for index, position in enumerate(self.columns.features):
            column = plain_numbers(split.columns[position])
            if column is None:
                doubtful.append(index)
            else:
                values[split.rows, index] = column
        if not doubtful:
            return
        # All in one: what is looked for in text costs more per call than per cell.
        count = len(split.rows)
        together = [split.columns[self.columns.features[index]] for index in doubtful]
        parsed, bad = parse_numbers(pa.concat_arrays(together))
        values[np.ix_(split.rows, np.array(doubtful))] = parsed.reshape(len(doubtful), count).T
        for place, index in enumerate(doubtful):
            for reason, cells in bad.items():
                rows = cells[cells // count == place] - place * count
                faults.add(split.rows[rows], self._schema.names[index], reason)
