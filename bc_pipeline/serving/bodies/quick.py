"""The short way through the reading of a record: what is surely sound, in a few microseconds.

Whatever this way does not take, for whatever reason, goes the long way of `BodyReader`,
which explains every defect. A record that is taken here is the one that the long way would
give; a property test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import ge, itemgetter, le

import msgspec

from bc_pipeline.schema import FeatureSchema, RowRule

_WRAPPED = b'"features"'
# Where the name of the wrapped form stands, if it does: behind a brace and some spaces.
_WRAPPED_WITHIN = 24
# A ratio this close to its bound is left to `FeatureSchema.row_defects`.
_SLACK = 1e-9

ID_LENGTH = 128
Values = tuple[float, ...]


class _Wrapped(msgspec.Struct, forbid_unknown_fields=True):
    features: list[float]
    id: str | None = None


class QuickReader:
    """Takes records whose names are all of one dialect, or a list of numbers.

    Parameters
    ----------
    schema : FeatureSchema
        Of two or more features.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self._width = len(schema.names)
        self._named = msgspec.json.Decoder(dict[str, float])
        self._wrapped = msgspec.json.Decoder(_Wrapped)
        self._orders = [itemgetter(*names) for names in _dialects(schema)]
        self._bounds = Bounds(
            [feature.minimum for feature in schema.features],
            [feature.maximum for feature in schema.features],
        )
        self._rules = _Rules(schema)

    def read(self, body: bytes) -> tuple[Values, str | None] | None:
        """Values in schema order and the caller's id; None where the long way must decide."""
        try:
            found = (
                self._read_wrapped(body)
                if body.find(_WRAPPED, 0, _WRAPPED_WITHIN) >= 0
                else self._read_named(body)
            )
        except (msgspec.MsgspecError, RecursionError):
            return None
        if found is None or not self.sound(found[0]):
            return None
        return found

    def sound(self, values: Sequence[float]) -> bool:
        """Whether a row surely has no defect; False says nothing."""
        return self._bounds.hold(values) and self._rules.hold(values)

    def _read_named(self, body: bytes) -> tuple[Values, None] | None:
        content = self._named.decode(body)
        # Two marks to a name and none elsewhere: a name given twice would leave more.
        if len(content) != self._width or body.count(b'"') != 2 * self._width:
            return None
        for order in self._orders:
            try:
                return order(content), None
            except KeyError:
                continue
        return None

    def _read_wrapped(self, body: bytes) -> tuple[Values, str | None] | None:
        content = self._wrapped.decode(body)
        if len(content.features) != self._width or b"\\" in body:
            return None
        # The names, and the id's text: any more and a name was given twice.
        if body.count(b'"') != (2 if content.id is None else 6):
            return None
        if content.id is not None and not usable_id(content.id):
            return None
        return tuple(content.features), content.id


def usable_id(text: str) -> bool:
    """Whether a text may name a record."""
    return 0 < len(text) <= ID_LENGTH and text.isprintable()


class Bounds:
    """A lower and an upper bound for each feature."""

    def __init__(self, low: Sequence[float], high: Sequence[float]) -> None:
        self.low, self.high = tuple(low), tuple(high)

    def hold(self, values: Sequence[float]) -> bool:
        """Whether every value lies within its bounds; NaN does not."""
        return all(map(le, self.low, values)) and all(map(le, values, self.high))

    def broken(self, values: Sequence[float]) -> list[int]:
        """Positions of the values outside."""
        return [
            position
            for position, (low, value, high) in enumerate(
                zip(self.low, values, self.high, strict=True)
            )
            if not low <= value <= high
        ]


class _Rules:
    """The row rules as plain loops: for one row these are quicker than arrays of one."""

    def __init__(self, schema: FeatureSchema) -> None:
        place = {name: index for index, name in enumerate(schema.names)}
        pairs = [(rule, place[rule.left], place[rule.right]) for rule in schema.rules]
        above = [(left, right) for rule, left, right in pairs if rule.kind == "at_least"]
        self._above = [left for left, _ in above]
        self._below = [right for _, right in above]
        self._together = [
            (left, right) for rule, left, right in pairs if rule.kind == "zero_together"
        ]
        self._ratios = [
            (_ratio_test(rule), left, right) for rule, left, right in pairs if rule.kind == "ratio"
        ]

    def hold(self, values: Sequence[float]) -> bool:
        at = values.__getitem__
        if not all(map(ge, map(at, self._above), map(at, self._below))):
            return False
        for left, right in self._together:
            if (values[left] == 0) != (values[right] == 0):
                return False
        return all(test(values[left], values[right]) for test, left, right in self._ratios)


def _ratio_test(rule: RowRule) -> Callable[[float, float], bool]:
    scale, power = rule.scale, rule.power
    low = rule.low + _SLACK * abs(rule.low) if math.isfinite(rule.low) else rule.low
    high = rule.high - _SLACK * abs(rule.high) if math.isfinite(rule.high) else rule.high

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
    """Spellings of all features that go together, the commonest first."""
    spaced = tuple(name.replace("_", " ") for name in schema.names)
    aliases: list[tuple[str, ...]] = list(
        zip(*(feature.aliases for feature in schema.features), strict=False)
    )
    return list(dict.fromkeys([schema.names, spaced, *aliases]))
