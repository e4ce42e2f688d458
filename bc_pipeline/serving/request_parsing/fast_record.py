"""Parses a record in a few microseconds if it is certainly valid.

Everything else is left to the strict parser of `RecordParser`, which names every defect. A
property test asserts that a record parsed here equals the strict parser's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import ge, itemgetter, le

import msgspec

from bc_pipeline.schema import FeatureSchema, RowRule, is_sample_id

_WRAPPER = b'"features"'
# In the wrapped form the name stands within so many bytes, after a brace and some spaces.
_WRAPPER_WITHIN = 24
# A ratio this close to its bound is left to `FeatureSchema.row_defects`, which may round it
# differently.
_TOLERANCE = 1e-9

Values = tuple[float, ...]


class Sample(msgspec.Struct, frozen=True):
    """One record to predict.

    Attributes
    ----------
    values : tuple of float
        In schema order; finite, within the physical ranges, obeying the row rules.
    id : str or None
        The caller's own name for the record.
    """

    values: Values
    id: str | None = None


class WrappedRecord(msgspec.Struct, forbid_unknown_fields=True):
    """A record as a list of numbers."""

    features: list[float]
    id: str | None = None


Decoded = dict[str, float] | WrappedRecord


class FastRecordParser:
    """Parses records whose names are all of one dialect, or a list of numbers.

    Parameters
    ----------
    schema : FeatureSchema
        With two or more features.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self._width = len(schema.names)
        self._named = msgspec.json.Decoder(dict[str, float])
        self._wrapped = msgspec.json.Decoder(WrappedRecord)
        self._orders = [itemgetter(*names) for names in _dialects(schema)]
        self._bounds = Bounds(
            [feature.minimum for feature in schema.features],
            [feature.maximum for feature in schema.features],
        )
        self._rules = _Rules(schema)

    def parse(self, body: bytes) -> Sample | None:
        """The sample if it is certainly valid; None for the strict parser to decide."""
        content = self.decode(body)
        return None if content is None else self.match(content)

    def decode(self, body: bytes) -> Decoded | None:
        """Content of a body; None unless all its values are finite numbers and no name repeats."""
        try:
            if body.find(_WRAPPER, 0, _WRAPPER_WITHIN) < 0:
                named = self._named.decode(body)
                # Each name has two quotes: a name that occurs twice shows in their number.
                return named if body.count(b'"') == 2 * len(named) else None
            wrapped = self._wrapped.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        # The names and the id have two quotes each: a name that occurs twice shows in their number.
        quotes = 2 if wrapped.id is None else 6
        return wrapped if body.count(b'"') == quotes and b"\\" not in body else None

    def match(self, content: Decoded) -> Sample | None:
        """The sample of decoded content; None for the strict parser to decide."""
        if isinstance(content, dict):
            values, sample_id = self._in_order(content), None
        else:
            values, sample_id = tuple(content.features), content.id
            if sample_id is not None and not is_sample_id(sample_id):
                return None
        if len(values) != self._width or not self.is_valid(values):
            return None
        return Sample(values, sample_id)

    def is_valid(self, values: Sequence[float]) -> bool:
        """Whether a row certainly has no defect; it may have none where this is False."""
        return self._bounds.contain(values) and self._rules.satisfied_by(values)

    def _in_order(self, content: dict[str, float]) -> Values:
        """Values in schema order; empty where the names are not those of one dialect."""
        if len(content) == self._width:
            for order in self._orders:
                try:
                    values: Values = order(content)
                    return values
                except KeyError:
                    continue
        return ()


class Bounds:
    """A lower and an upper bound for each feature."""

    def __init__(self, low: Sequence[float], high: Sequence[float]) -> None:
        self.low, self.high = tuple(low), tuple(high)

    def contain(self, values: Sequence[float]) -> bool:
        """Whether every value lies within its bounds; NaN does not."""
        return all(map(le, self.low, values)) and all(map(le, values, self.high))

    def outside(self, values: Sequence[float]) -> list[int]:
        """Positions of the values that are not within their bounds."""
        return [
            position
            for position, (low, value, high) in enumerate(
                zip(self.low, values, self.high, strict=True)
            )
            if not low <= value <= high
        ]


class _Rules:
    """The row rules as plain loops, which are faster than arrays for a single row."""

    def __init__(self, schema: FeatureSchema) -> None:
        position = {name: index for index, name in enumerate(schema.names)}
        pairs = [(rule, position[rule.left], position[rule.right]) for rule in schema.rules]
        above = [(left, right) for rule, left, right in pairs if rule.kind == "at_least"]
        self._above = [left for left, _ in above]
        self._below = [right for _, right in above]
        self._together = [
            (left, right) for rule, left, right in pairs if rule.kind == "zero_together"
        ]
        self._ratios = [
            (_ratio_test(rule), left, right) for rule, left, right in pairs if rule.kind == "ratio"
        ]

    def satisfied_by(self, values: Sequence[float]) -> bool:
        at = values.__getitem__
        if not all(map(ge, map(at, self._above), map(at, self._below))):
            return False
        for left, right in self._together:
            if (values[left] == 0) != (values[right] == 0):
                return False
        return all(test(values[left], values[right]) for test, left, right in self._ratios)


def _ratio_test(rule: RowRule) -> Callable[[float, float], bool]:
    scale, power = rule.scale, rule.power
    low = rule.low + _TOLERANCE * abs(rule.low) if math.isfinite(rule.low) else rule.low
    high = rule.high - _TOLERANCE * abs(rule.high) if math.isfinite(rule.high) else rule.high

    def test(left: float, right: float) -> bool:
        if right <= 0:
            return True
        try:
            ratio = left / (scale * right**power)
        except ArithmeticError:
            return False
        return bool(low <= ratio <= high)

    return test


def _dialects(schema: FeatureSchema) -> list[tuple[str, ...]]:
    """The names of all features in each dialect, the most common first."""
    spaced = tuple(name.replace("_", " ") for name in schema.names)
    aliases: list[tuple[str, ...]] = list(
        zip(*(feature.aliases for feature in schema.features), strict=False)
    )
    return list(dict.fromkeys([schema.names, spaced, *aliases]))
