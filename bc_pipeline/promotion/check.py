"""Comparisons for the checks of a verdict, in which an unknown number fails."""

from __future__ import annotations

import math

from bc_pipeline.artifacts.evidence import Interval


def is_known(*values: float | None) -> bool:
    """Whether every value is a finite number."""
    return all(value is not None and math.isfinite(value) for value in values)


def at_least(value: float | None, bound: float) -> bool:
    return value is not None and is_known(value, bound) and value >= bound


def at_most(value: float | None, bound: float) -> bool:
    return value is not None and is_known(value, bound) and value <= bound


def is_above_zero(interval: Interval | None) -> bool:
    """Whether the whole interval is known and positive."""
    if interval is None or interval.low is None:
        return False
    return is_known(interval.low, interval.high) and interval.low > 0.0


def missing_note(*values: float | None) -> str:
    return "" if is_known(*values) else "Could not be computed: an unknown value fails."
