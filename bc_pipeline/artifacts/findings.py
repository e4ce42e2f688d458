"""What a check of a verdict found, in a sentence with its figures."""

from __future__ import annotations

import math
import re

from bc_pipeline.artifacts.verdict import Check

# A rule names what is measured, and from one of these words on what it must be.
_REQUIREMENT = re.compile(r" (?=at least |at most |no lower than |not below |within )")
_DIGITS = (3, 4, 6, 17)


def finding(check: Check) -> str:
    """What a check found, such as ``"specificity on the holdout 0.865, needs at least 0.88"``.

    A rule without a figure, such as that of the data's age, is followed by its note.
    """
    measured, *required = _REQUIREMENT.split(check.rule, maxsplit=1)
    figures = (check.challenger, check.champion, check.bound)
    if not required or figures == (None, None, None):
        return f"not met: {check.rule}. {check.note}".strip(" .")
    known = [figure for figure in figures if figure is not None and math.isfinite(figure)]
    value = (
        f" {_text(check.challenger, known)}"
        if check.challenger in known
        else (" could not be computed")
    )
    champion = f", champion {_text(check.champion, known)}" if check.champion in known else ""
    return f"{measured}{value}{champion}, needs {required[0]}"


def _text(figure: float | None, known: list[float]) -> str:
    """A figure with as many digits as tell the known ones apart."""
    digits = next(
        (
            digits
            for digits in _DIGITS
            if len({f"{each:.{digits}g}" for each in known}) == len(set(known))
        ),
        _DIGITS[-1],
    )
    return f"{figure:.{digits}g}"
