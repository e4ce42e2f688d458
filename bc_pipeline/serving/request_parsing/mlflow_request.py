"""Parses the bodies of MLflow's scoring protocol: one table of rows, in JSON or in CSV.

As in MLflow, columns that are no features are ignored, and so are members of the JSON beside
the table. Unlike in MLflow, text and booleans are no numbers, and rows without names are in the
order of the features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bc_pipeline.errors import BodyTooLarge, RequestRefused, counted
from bc_pipeline.names import NameMatch, is_number, match_names
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.serving.request_parsing.csv_lines import csv_lines
from bc_pipeline.serving.request_parsing.defects import mismatch_at, schema_mismatch
from bc_pipeline.serving.request_parsing.fast_record import Sample
from bc_pipeline.serving.request_parsing.json_members import Members, match_members, require_members
from bc_pipeline.serving.request_parsing.rows import (
    MAX_LISTED,
    ROW_LIMIT,
    parse_values,
    require_row_count,
    require_value_count,
    to_array,
    to_samples,
)
from bc_pipeline.tables.checks import RowDefects

FORMATS = ("dataframe_split", "dataframe_records", "inputs", "instances")
_MAX_LINES = 4 * ROW_LIMIT
_MAX_SUGGESTIONS = 30
# Sets of names whose match is cached.
_MAX_COLUMN_SETS = 16


class _TableParser:
    """Parses one table, in any form."""

    def __init__(self, schema: FeatureSchema) -> None:
        self._schema = schema
        self._defects = RowDefects(MAX_LISTED)
        self._features: dict[str, str | None] = {}

    def samples(self, values: np.ndarray) -> list[Sample]:
        return to_samples(self._schema, values, self._defects)

    def match(self, names: Sequence[Any]) -> NameMatch:
        """Which of the columns are which features."""
        if len(names) > self._schema.column_limit:
            raise mismatch_at(None, f"a table of {len(names)} columns is not read")
        return match_names(names, self._feature)

    def complete_match(self, names: Sequence[Any]) -> NameMatch:
        """The same for names that lack no feature and repeat none.

        Raises
        ------
        SchemaMismatch
            Also with the unknown names that resemble a missing feature.
        """
        match = self.match(names)
        self.require_complete(match)
        return match

    def require_complete(self, match: NameMatch) -> None:
        schema = self._schema
        defects = schema.missing_names(match.positions)
        missing = {defect.column for defect in defects}
        defects += match.repeated.values()
        if not defects:
            return
        unknown = [name for name in match.unknown if isinstance(name, str) and name.isprintable()]
        for name in unknown[:_MAX_SUGGESTIONS]:
            hint = schema.suggest(name)
            if hint in missing:
                defects.append(schema.unknown_name(name, hint))
        raise schema_mismatch(defects)

    def pick(self, match: NameMatch, cells: Sequence[Any]) -> list[Any]:
        """Cells of a row in schema order; None for a feature that is missing."""
        positions = map(match.positions.get, self._schema.names)
        return [None if position is None else cells[position] for position in positions]

    def _feature(self, name: Any) -> str | None:
        if not isinstance(name, str):
            return None
        if name not in self._features:
            if len(self._features) == (limit := self._schema.column_limit):
                raise mismatch_at(None, f"more than {limit} different names are not read")
            self._features[name] = self._schema.canonical(name)
        return self._features[name]

    def values(self, rows: Iterable[Sequence[Any]]) -> np.ndarray:
        return to_array(rows, self._schema.names, self._defects)

    def unnamed(self, rows: list[Any], where: str) -> np.ndarray:
        _require_width(rows, len(self._schema.names), where)
        return self.values(rows)

    def dataframe_split(self, table: Any, where: str) -> np.ndarray:
        members = require_members(table, ("columns", "data", "index"), where)
        if "data" not in members or len(members) != len(table):
            raise mismatch_at(where, "must hold data, and may hold columns and index")
        rows = _list_of(members["data"], list, f"{where}.data")
        index = members.get("index")
        if index is not None and not (isinstance(index, list) and len(index) == len(rows)):
            raise mismatch_at(f"{where}.index", "must be a list of one entry for each row")
        names = members.get("columns")
        if names is None:
            return self.unnamed(rows, f"{where}.data")
        if not isinstance(names, list):
            raise mismatch_at(f"{where}.columns", "must be a list of names")
        match = self.complete_match(names)
        _require_width(rows, len(names), f"{where}.data")
        return self.values(self.pick(match, row) for row in rows)

    def dataframe_records(self, table: Any, where: str) -> np.ndarray:
        records = _list_of(table, Members, where)
        matches: dict[tuple[str, ...], NameMatch] = {}
        rows = []
        for row, record in enumerate(records):
            names = tuple(name for name, _ in record)
            match = matches.get(names)
            if match is None:
                match = self.match(names)
                if len(matches) < _MAX_COLUMN_SETS:
                    matches[names] = match
            for name in match.repeated:
                self._defects.add([row], name, "is given twice")
            rows.append(self.pick(match, [value for _, value in record]))
            if self._defects.is_full:
                break
        if len(matches) == 1:
            # All records have the same names: their defects are listed once.
            self.require_complete(*matches.values())
        return self.values(rows)

    def tensor(self, table: Any, where: str) -> np.ndarray:
        """``inputs`` or ``instances``: rows, records, columns, or one record."""
        if isinstance(table, Members):
            if table and all(isinstance(value, list) for _, value in table):
                return self.column_lists(table, where)
            return self.dataframe_records([table], where)
        if isinstance(table, list) and table and isinstance(table[0], list):
            return self.unnamed(_list_of(table, list, where), where)
        return self.dataframe_records(table, where)

    def column_lists(self, table: Members, where: str) -> np.ndarray:
        match = self.complete_match([name for name, _ in table])
        lists = self.pick(match, [values for _, values in table])
        if len({len(values) for values in lists}) != 1:
            raise mismatch_at(where, "must have columns of one length")
        require_row_count(len(lists[0]), where)
        return self.values(zip(*lists, strict=True))


def read_table(body: bytes, schema: FeatureSchema) -> list[Sample]:
    """Rows of a body in JSON.

    Raises
    ------
    RequestRefused
        Where it does not have exactly one of `FORMATS`.
    BodyTooLarge
    BodyUnreadable
    SchemaMismatch
        Naming row and feature of every defect of the values.
    """
    content = parse_values(body)
    members = content if isinstance(content, Members) else Members()
    tables, match = match_members(members, lambda name: name if name in FORMATS else None)
    if len(tables) != 1 or match.repeated:
        raise RequestRefused(
            f"The body must be a JSON object with exactly one of {', '.join(FORMATS)}."
        )
    ((form, table),) = tables.items()
    parser = _TableParser(schema)
    parse = {
        "dataframe_split": parser.dataframe_split,
        "dataframe_records": parser.dataframe_records,
    }.get(form, parser.tensor)
    return parser.samples(parse(table, form))


def read_csv(body: bytes, schema: FeatureSchema) -> list[Sample]:
    """Rows of a body in CSV: commas, a header of names, a dot for decimals.

    Raises
    ------
    BodyTooLarge
    BodyUnreadable
    SchemaMismatch
        Naming row and feature of every defect of the values.
    """
    require_value_count(body.count(b","))
    # Blank lines between the rows are allowed.
    lines = csv_lines(body, _MAX_LINES + 1)
    if len(lines) > _MAX_LINES:
        raise BodyTooLarge(f"The body may hold {ROW_LIMIT} rows.", limit=ROW_LIMIT)
    header, *rows = filter(None, lines)
    parser = _TableParser(schema)
    match = parser.complete_match(header)
    require_row_count(len(rows), "body")
    _require_width(rows, len(header), "body")
    cells = ([_number(cell) for cell in parser.pick(match, row)] for row in rows)
    return parser.samples(parser.values(cells))


def _list_of(content: Any, kind: type, where: str) -> list[Any]:
    if not isinstance(content, list) or not all(isinstance(row, kind) for row in content):
        items = "lists" if kind is list else "objects"
        raise mismatch_at(where, f"must be a list of {items}, one for each row")
    require_row_count(len(content), where)
    return content


def _require_width(rows: Sequence[list[Any]], width: int, where: str) -> None:
    for row, cells in enumerate(rows, start=1):
        if len(cells) != width:
            reason = f"holds {counted(len(cells), 'value')} in row {row}; expected: {width}"
            raise mismatch_at(where, reason)


def _number(text: str) -> Any:
    """The number in a cell, None for an empty one; any other text is returned as it is."""
    if is_number(text):
        return float(text)
    return text if text.strip() else None
