"""Text of numbers and outcomes."""

from __future__ import annotations


def number(value: float | None) -> str:
    """Four significant digits; a dash for None."""
    return "-" if value is None else f"{value:.4g}"


def outcome(passed: bool, blocking: bool) -> str:
    if passed:
        return "passed"
    return "FAILED" if blocking else "failed (advisory)"
