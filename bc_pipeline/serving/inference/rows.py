"""Many rows of one request: bounds of what is read, and every defect by row and feature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bc_pipeline.errors import BodyTooLarge, Defect, SchemaMismatch
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.serving.bodies.body import Members, Sample, parse_json

ROW_LIMIT = 10_000
# Values that the JSON of a body may hold: enough for the rows with some columns to spare. A
# comma costs a byte, what it parts may cost a hundred.
VALUES_READ = 350_000
# Text with characters beyond ASCII can take four times its size.
_WIDE_BYTES = 4 * 1024 * 1024
_LISTED = 100
_AT_ONCE = 1000
_PLAIN = {float}


def parse_values(text: bytes) -> Any:
    """Parse JSON, as `parse_json`, that cannot grow beyond bounds.

    Raises
    ------
    BodyTooLarge
        Where it holds more values than the rows that are taken can have.
    BodyUnreadable
    """
    require_few(text.count(b","))
    if len(text) > _WIDE_BYTES and not text.isascii():
        raise BodyTooLarge(
            f"JSON of more than {_WIDE_BYTES} bytes must be plain ASCII.", limit=_WIDE_BYTES
        )
    return parse_json(text)


def require_few(values: int) -> None:
    """Refuse more values than the rows that are taken can have.

    Raises
    ------
    BodyTooLarge
    """
    if values > VALUES_READ:
        raise BodyTooLarge(f"The body may hold {VALUES_READ} values.", limit=VALUES_READ)


def wrong(reason: str, column: str | None = None) -> SchemaMismatch:
    """What is wrong with the request as a whole."""
    return mismatch(1, [Defect(reason, column=column)])


def mismatch(count: int, defects: Sequence[Defect]) -> SchemaMismatch:
    what = f"{count} defect{'s' if count != 1 else ''}"
    where = "'defects'" if count == len(defects) else f"'defects' for the first {len(defects)}"
    return SchemaMismatch(
        f"The input has {what}; see {where}.", source="request", defects=tuple(defects)
    )


def members(content: Any, known: Iterable[str], where: str) -> dict[str, Any]:
    """The known members of a JSON object; others are not looked at.

    Raises
    ------
    SchemaMismatch
        Where it is no object, or one of them is given twice.
    """
    if not isinstance(content, Members):
        raise wrong("must be a JSON object", where)
    wanted, found = frozenset(known), {}
    for name, value in content:
        if name in wanted:
            if name in found:
                raise wrong("is given twice", name)
            found[name] = value
    return found


def require_rows(count: int, where: str) -> None:
    """Refuse no rows, and too many.

    Raises
    ------
    SchemaMismatch
    """
    if not 1 <= count <= ROW_LIMIT:
        raise wrong(f"must hold 1 to {ROW_LIMIT} rows", where)


@dataclass
class Faults:
    """Defects of rows, of which the first hundred are kept.

    Attributes
    ----------
    count : int
        Of all defects found.
    """

    count: int = 0
    _listed: list[Defect] = field(default_factory=list)
    _places: set[tuple[int, str | None]] = field(default_factory=set)

    @property
    def full(self) -> bool:
        return self.count >= _LISTED

    def add(self, row: int, feature: str | None, reason: str) -> None:
        """Note a defect of a row, counted from 0; callers see rows counted from 1."""
        if not self.full:
            self._places.add((row, feature))
            self._listed.append(Defect(f"in row {row + 1} {reason}", column=feature))
        self.count += 1

    def known(self, row: int, feature: str | None) -> bool:
        return (row, feature) in self._places

    def require_none(self) -> None:
        """Raise what was found.

        Raises
        ------
        SchemaMismatch
        """
        if self.count:
            raise mismatch(self.count, self._listed)


def numbers(
    cells: Sequence[Any], row: int, names: Sequence[str], faults: Faults
) -> Sequence[float]:
    """Cells of parsed JSON as numbers; NaN, and a fault, for what is none."""
    if set(map(type, cells)) == _PLAIN:
        return cells
    for name, cell in zip(names, cells, strict=True):
        if type(cell) is not float:
            faults.add(row, name, "is missing" if cell is None else "is not a number")
    return [cell if type(cell) is float else np.nan for cell in cells]


def to_samples(schema: FeatureSchema, values: np.ndarray, faults: Faults) -> list[Sample]:
    """Sound rows as samples.

    Parameters
    ----------
    values : array of float64, shape (n, n_features)
        NaN where `faults` already holds a defect.

    Raises
    ------
    SchemaMismatch
        Where any row has a defect: then none is answered.
    """
    for start in range(0, len(values), _AT_ONCE):
        if faults.full:
            break
        found = schema.row_defects(values[start : start + _AT_ONCE])
        for row in sorted(found):
            for defect in found[row]:
                if not faults.known(start + row, defect.column):
                    faults.add(start + row, defect.column, defect.reason)
    faults.require_none()
    return [Sample(tuple(row)) for row in values.tolist()]
