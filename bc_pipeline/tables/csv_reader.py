"""CSV of any dialect, read strictly and in blocks.

Lines are split and checked first (`bc_pipeline.tables.lines`), so that a row is one physical
line and its number is exact. Arrow then splits and converts a chunk at a time directly to
float64; a chunk with a cell that does not convert is parsed again as text to find that cell.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import numpy as np

from bc_pipeline.errors import SchemaMismatch
from bc_pipeline.names import is_number
from bc_pipeline.tables.arrow_arrays import numbers_of
from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.checks import RowDefects
from bc_pipeline.tables.columns import ColumnFinder, Columns
from bc_pipeline.tables.foreign_files import not_a_header
from bc_pipeline.tables.lines import Chunk, LineSource, check_quotes, refusal
from bc_pipeline.tables.locations import Openable
from bc_pipeline.tables.numbers import EMPTY, parse_numbers, plain_numbers
from bc_pipeline.tables.parts import FilePart
from bc_pipeline.tables.rows import Kind, SplitRows, split_rows
from bc_pipeline.tables.table_reader import TableReader

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "blanks"}
_PREAMBLE_LINES = 20


class CsvReader(TableReader):
    """An open CSV file, with a valid header and at least one row.

    Parameters
    ----------
    part : FilePart, optional
        The part of the file to read; by default all of it.
    columns : Columns, optional
        Columns of the file, for a part without the header.
    """

    def __init__(
        self,
        source: Openable,
        finder: ColumnFinder,
        block_bytes: int,
        part: FilePart | None = None,
        columns: Columns | None = None,
    ) -> None:
        super().__init__(finder)
        self._lines = LineSource(source, block_bytes, part)
        self.bytes_total = self._lines.bytes_total
        self._chunks = self._lines.chunks()
        try:
            self.columns = columns or self._find_columns()
        except BaseException:
            self._lines.close()
            raise

    @property
    def sha256(self) -> str:
        return self._lines.sha256

    def close(self) -> None:
        self._lines.close()

    def __iter__(self) -> Iterator[Block]:
        for chunk in self._chunks:
            yield self._block(chunk)
        self.bytes_done = self._lines.bytes_done

    def _find_columns(self) -> Columns:
        """Find the columns, and skip the header."""
        chunk = next(self._chunks, None)
        if chunk is None:
            raise refusal(self.source, "is empty")
        while chunk.ends[0] == 0:
            # Blank lines above the header are skipped; line numbers count them.
            chunk = chunk.split_first()[1]
        header, others = chunk.split_first()
        cells = self._cells(header, chunk)
        if self._finder.looks_headerless(cells):
            self._chunks = chain([chunk], self._chunks)
            return self._finder.find_by_number(cells)
        first = others if len(others) else next(self._chunks, None)
        if first is None and any(map(is_number, cells)):
            raise refusal(
                self.source,
                "is one line with header and values: the ends of the lines were lost",
                "Write each row on a line of its own.",
                chunk.first_line,
            )
        try:
            columns = self._finder.find_by_name(cells)
        except SchemaMismatch:
            if first is not None:
                self._refuse_preamble(cells, chunk.first_line, first)
            raise
        if first is None:
            raise refusal(self.source, "has a header and no rows")
        self._chunks = chain([first], self._chunks)
        return self._examine_spare(self._fit_spare(columns, first), first)

    def _refuse_preamble(self, cells: list[str], line: int, following: Chunk) -> None:
        """Say so where lines stand above the header."""
        header_index = self._finder.header_line(following.first_lines(_PREAMBLE_LINES))
        if header_index is not None:
            header = following.first_line + header_index
            raise refusal(
                self.source,
                f"is no header; the header is line {header}",
                f"Remove the lines above line {header}.",
                line,
            )

    def _cells(self, header: bytes, chunk: Chunk) -> list[str]:
        """Cells of the first line, after checking that commas separate them."""
        text = header.decode()
        line = chunk.first_line
        if reason := not_a_header(text):
            raise refusal(self.source, *reason, line)
        if not self._finder.knows_any([cell.strip().strip('"') for cell in text.split(",")]):
            fewest = max(1, len(self._finder.schema.features) - 1)
            for separator, word in _SEPARATORS.items():
                if text.count(separator) >= fewest:
                    raise refusal(
                        self.source,
                        f"separates its fields by {word}",
                        "Write it with commas between fields and dots in numbers.",
                        line,
                    )
        check_quotes(Chunk(header + b"\n", line, chunk.ends[:1]), self.source)
        return [cell.strip() for cell in next(csv.reader([text], strict=True))]

    def _fit_spare(self, columns: Columns, first: Chunk) -> Columns:
        """Drop the unnamed last column of Kaggle's header if the first row has one field less."""
        last = columns.width - 1
        if last not in columns.spare:
            return columns
        row = next(csv.reader([first.split_first()[0].decode()]), [])
        if len(row) != last:
            return columns
        spare = tuple(position for position in columns.spare if position != last)
        return replace(columns, width=last, spare=spare)

    def _examine_spare(self, columns: Columns, first: Chunk) -> Columns:
        if not columns.spare:
            return columns
        check_quotes(first, self.source)
        text: dict[int, Kind] = dict.fromkeys(columns.spare, "text")
        split = split_rows(first, columns.width, text, self.source)
        return self.examine_spare(columns, split.columns, split.rows)

    def _block(self, chunk: Chunk) -> Block:
        check_quotes(chunk, self.source)
        count = len(chunk)
        defects = RowDefects()
        # Column by column, as Arrow has them and the checks go through them.
        values = np.full((len(self._finder.schema.features), count), np.nan).T
        split = self._values(chunk, values, defects)
        for row, reason in split.others.items():
            defects.add_unreadable(row, reason)
        lines = np.arange(chunk.first_line, chunk.first_line + count, dtype=np.int64)
        block = self._make_block(lines, split.rows, values, split.columns, defects)
        self.bytes_done = self._lines.bytes_done
        return block

    def _values(self, chunk: Chunk, values: np.ndarray, defects: RowDefects) -> SplitRows:
        """Split the chunk, fill in the values of its rows and collect cells without a number."""
        import pyarrow as pa

        columns = self.columns
        text: dict[int, Kind] = dict.fromkeys(columns.texts, "text")
        numbers: dict[int, Kind] = dict.fromkeys(columns.features.values(), "number")
        try:
            split = split_rows(chunk, columns.width, text | numbers, self.source)
            rows = slice(None) if len(split.rows) == len(chunk) else split.rows
            for index, position in columns.features.items():
                values[rows, index] = numbers_of(split.columns[position])
            readable = all(np.isfinite(values[rows, index]).all() for index in columns.features)
        except pa.ArrowInvalid:
            readable = False
        if not readable:
            as_text: dict[int, Kind] = dict.fromkeys(columns.features.values(), "text")
            split = split_rows(chunk, columns.width, text | as_text, self.source)
            self._read_text(split, values, defects)
        self.add_spare_defects(split.columns, split.rows, defects)
        return split

    def _read_text(self, split: SplitRows, values: np.ndarray, defects: RowDefects) -> None:
        """Fill in the values from text, some of which is not a number."""
        import pyarrow as pa

        unconverted = []
        for index, position in self.columns.features.items():
            column = plain_numbers(split.columns[position])
            if column is None:
                unconverted.append(index)
            else:
                values[split.rows, index] = column
        if not unconverted:
            return
        # One call for all these columns: parsing costs more per call than per cell.
        count = len(split.rows)
        cells = [split.columns[self.columns.features[index]] for index in unconverted]
        parsed, bad = parse_numbers(pa.concat_arrays(cells))
        values[np.ix_(split.rows, np.array(unconverted))] = parsed.reshape(
            len(unconverted), count
        ).T
        for order, index in enumerate(unconverted):
            feature = self._finder.schema.features[index]
            for reason, positions in bad.items():
                if reason == EMPTY and feature.optional:
                    continue
                rows = positions[positions // count == order] - order * count
                defects.add(split.rows[rows], feature.name, reason)
