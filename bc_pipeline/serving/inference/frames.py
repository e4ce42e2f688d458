"""The bodies of MLflow's scoring protocol: one table of rows, in JSON or in CSV.

As in MLflow, columns that are no features are ignored, and so are members of the JSON beside
the table. Unlike MLflow, text and booleans are no numbers, and rows without names are
taken in the order of the features.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from bc_pipeline.errors import BodyTooLarge, BodyUnreadable, Defect, RequestRefused
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.serving.bodies.body import Members, Sample
from bc_pipeline.serving.inference.rows import (
    ROW_LIMIT,
    Faults,
    members,
    mismatch,
    numbers,
    parse_values,
    require_few,
    require_rows,
    to_samples,
    wrong,
)
from bc_pipeline.tables.numbers import is_number

FORMATS = ("dataframe_split", "dataframe_records", "inputs", "instances")
_NAME_LENGTH = 80
_COLUMNS = 1000
_SUGGESTED = 30
# Different names of one request that are looked at, and sets of names that are remembered.
_DIFFERENT = 20_000
_KINDS = 16

Rows = Iterable[Sequence[Any]]
Names = tuple[str, ...]


class Spellings:
    """Which feature a name means; a name that comes again costs little.

    Raises
    ------
    SchemaMismatch
        At a request of very many different names.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self._known: dict[str, str | None] = {}

    def feature(self, name: Any) -> str | None:
        if not is_name(name):
            return None
        if name not in self._known:
            if len(self._known) == _DIFFERENT:
                raise wrong(f"more than {_DIFFERENT} different names are not read")
            self._known[name] = self.schema.canonical(name)
        return self._known[name]


def is_name(name: Any) -> bool:
    return isinstance(name, str) and len(name) <= _NAME_LENGTH


class Columns:
    """Where the features stand in rows of named values.

    Attributes
    ----------
    places : list of (int or None)
        Place of each feature, in schema order.
    """

    def __init__(self, spellings: Spellings, names: Sequence[Any]) -> None:
        self._schema = spellings.schema
        self.repeated: list[str] = []
        self._strangers: list[str] = []
        found: dict[str, int] = {}
        if len(names) > _COLUMNS:
            raise wrong(f"a table of {len(names)} columns is not read")
        for place, name in enumerate(names):
            feature = spellings.feature(name)
            if feature is None:
                self._strangers += [name] if is_name(name) and name.isprintable() else []
            elif feature in found:
                self.repeated.append(feature)
            else:
                found[feature] = place
        self.places = [found.get(name) for name in self._schema.names]

    @property
    def missing(self) -> list[str]:
        pairs = zip(self._schema.names, self.places, strict=True)
        return [name for name, place in pairs if place is None]

    @property
    def complete(self) -> bool:
        return not self.repeated and None not in self.places

    def require_complete(self) -> None:
        """Refuse names that are not those of the features.

        Raises
        ------
        SchemaMismatch
            With what the names that are no features may have meant.
        """
        if self.complete:
            return
        defects = [Defect("is given twice", column=name) for name in self.repeated]
        defects += [Defect("is missing", column=name) for name in self.missing]
        for name in self._strangers[:_SUGGESTED]:
            hint = self._schema.suggest(name)
            if hint in self.missing:
                reason = f"is not a feature; did you mean {hint!r}?"
                defects.append(Defect(reason, column=name))
        raise mismatch(len(defects), defects)

    def pick(self, cells: Sequence[Any]) -> list[Any]:
        """Cells of a row in schema order; None for what is missing."""
        return [None if place is None else cells[place] for place in self.places]


def read_table(body: bytes, schema: FeatureSchema) -> list[Sample]:
    """Rows of a body in JSON.

    Raises
    ------
    RequestRefused
        Where it does not hold exactly one of `FORMATS`.
    BodyTooLarge
    BodyUnreadable
    SchemaMismatch
        Naming row and feature of every defect of the values.
    """
    content = parse_values(body)
    given = [name for name, _ in content] if isinstance(content, Members) else []
    forms = [name for name in given if name in FORMATS]
    if len(forms) != 1:
        raise RequestRefused(
            f"The body must be a JSON object with exactly one of {', '.join(FORMATS)}."
        )
    (form,) = forms
    table = dict(content)[form]
    faults = Faults()
    values = _READERS[form](table, form, schema, faults)
    return to_samples(schema, values, faults)


def _split(table: Any, where: str, schema: FeatureSchema, faults: Faults) -> np.ndarray:
    known = ("columns", "data", "index")
    found = members(table, known, where)
    if "data" not in found or len(found) != len(table):
        raise wrong("must hold data, and may hold columns and index", where)
    rows = _list_of(found["data"], list, f"{where}.data")
    index = found.get("index")
    if index is not None and not (isinstance(index, list) and len(index) == len(rows)):
        raise wrong("must be a list of one entry for each row", f"{where}.index")
    names = found.get("columns")
    if names is None:
        return _unnamed(rows, f"{where}.data", schema, faults)
    if not isinstance(names, list):
        raise wrong("must be a list of names", f"{where}.columns")
    columns = Columns(Spellings(schema), names)
    columns.require_complete()
    _require_width(rows, len(names), f"{where}.data")
    return _values(map(columns.pick, rows), schema, faults)


def _records(table: Any, where: str, schema: FeatureSchema, faults: Faults) -> np.ndarray:
    records = _list_of(table, Members, where)
    spellings = Spellings(schema)
    kinds: dict[Names, Columns] = {}
    picked = []
    for row, record in enumerate(records):
        names = tuple(name for name, _ in record)
        columns = kinds.get(names)
        if columns is None:
            columns = Columns(spellings, names)
            if len(kinds) < _KINDS:
                kinds[names] = columns
        for name in columns.repeated:
            faults.add(row, name, "is given twice")
        picked.append(columns.pick([value for _, value in record]))
        if faults.full:
            break
    if len(kinds) == 1:
        # Names that are wrong in every record are wrong once.
        kinds.popitem()[1].require_complete()
    return _values(picked, schema, faults)


def _tensor(table: Any, where: str, schema: FeatureSchema, faults: Faults) -> np.ndarray:
    """What ``inputs`` and ``instances`` may hold: rows, records, columns, or one record."""
    if isinstance(table, Members):
        lists = [isinstance(value, list) for _, value in table]
        if table and all(lists):
            return _columns(table, where, schema, faults)
        return _records([table], where, schema, faults)
    if isinstance(table, list) and table and isinstance(table[0], list):
        return _unnamed(_list_of(table, list, where), where, schema, faults)
    return _records(table, where, schema, faults)


def _columns(table: Members, where: str, schema: FeatureSchema, faults: Faults) -> np.ndarray:
    columns = Columns(Spellings(schema), [name for name, _ in table])
    columns.require_complete()
    lists = columns.pick([values for _, values in table])
    if len({len(values) for values in lists}) != 1:
        raise wrong("must have columns of one length", where)
    require_rows(len(lists[0]), where)
    return _values(zip(*lists, strict=True), schema, faults)


def _unnamed(rows: list[Any], where: str, schema: FeatureSchema, faults: Faults) -> np.ndarray:
    _require_width(rows, len(schema.names), where)
    return _values(rows, schema, faults)


def _list_of(content: Any, kind: type, where: str) -> list[Any]:
    what = "lists" if kind is list else "objects"
    if not isinstance(content, list) or not all(isinstance(row, kind) for row in content):
        raise wrong(f"must be a list of {what}, one for each row", where)
    require_rows(len(content), where)
    return content


def _require_width(rows: Sequence[list[Any]], width: int, where: str) -> None:
    for row, cells in enumerate(rows):
        if len(cells) != width:
            raise wrong(f"holds {len(cells)} values in row {row + 1}; {width} are expected", where)


def _values(rows: Rows, schema: FeatureSchema, faults: Faults) -> np.ndarray:
    names = schema.names
    read = [numbers(cells, row, names, faults) for row, cells in enumerate(rows)]
    return np.array(read, dtype=np.float64)


_READERS: dict[str, Callable[[Any, str, FeatureSchema, Faults], np.ndarray]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "inputs": _tensor,
    "instances": _tensor,
}


def read_csv(body: bytes, schema: FeatureSchema) -> list[Sample]:
    """Rows of a body in CSV: commas, a header of names, a dot for decimals.

    Raises
    ------
    BodyTooLarge
    BodyUnreadable
    SchemaMismatch
        Naming row and feature of every defect of the values.
    """
    require_few(body.count(b","))
    # A blank line for each row is room enough.
    if body.count(b"\n") + body.count(b"\r") > 4 * ROW_LIMIT:
        raise BodyTooLarge(f"The body may hold {ROW_LIMIT} rows.", limit=ROW_LIMIT)
    stream = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8-sig", newline="")
    lines = csv.reader(stream, strict=True)
    try:
        table = [cells for cells in lines if cells]
    except UnicodeDecodeError:
        problem = "The body is not UTF-8."
    except csv.Error:
        problem = f"The body is not CSV: see line {lines.line_num}."
    else:
        if not table:
            raise BodyUnreadable("The body is empty.")
        return _csv_samples(table, schema)
    raise BodyUnreadable(problem)


def _csv_samples(table: list[list[str]], schema: FeatureSchema) -> list[Sample]:
    header, *rows = table
    columns = Columns(Spellings(schema), header)
    columns.require_complete()
    require_rows(len(rows), "body")
    _require_width(rows, len(header), "body")
    faults = Faults()
    cells = (list(map(_number, columns.pick(row))) for row in rows)
    return to_samples(schema, _values(cells, schema, faults), faults)


def _number(text: str) -> Any:
    """The number that a cell holds, None for an empty one; any other text stays."""
    if is_number(text):
        return float(text)
    return text if text.strip() else None
