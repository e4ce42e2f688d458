"""Checks that a challenger is not too good: a feature that was made from the label.

Such a leak improves the figures of cross-validation and of the holdout alike, and is missing in
rows of new patients. A comparison with the champion would count it as a gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

from bc_pipeline.artifacts.evidence import Score, Separation, Separations
from bc_pipeline.artifacts.verdict import Check
from bc_pipeline.data.class_separation import area_variance
from bc_pipeline.errors import counted
from bc_pipeline.problems.policies import LeakPolicy
from bc_pipeline.promotion.check import at_least, is_known, missing_note

_SHOWN = 3
_NORMAL = NormalDist()


@dataclass(frozen=True)
class _Area:
    """Area of a feature by itself in some rows.

    Attributes
    ----------
    known : float
        Of the reference.
    p : float
        Probability that a clean population has such an area, or a larger one.
    """

    feature: str
    part: Separation
    area: float
    known: float
    p: float

    @property
    def where(self) -> str:
        where = f"{counted(self.part.rows, 'row')}"
        if self.part.batches:
            word = "batch" if len(self.part.batches) == 1 else "batches"
            where += f" of {word} {', '.join(self.part.batches)}"
        return where

    def __str__(self) -> str:
        return (
            f"{self.feature} alone tells the label: AUC {self.area:.2f}, {self.known:.2f} in the "
            f"reference ({self.where})."
        )


def single_features(policy: LeakPolicy, separations: Separations | None) -> Check:
    """No feature by itself tells the label much better than in the reference rows."""
    name = "single_feature_auc"
    rule = (
        "no feature alone separates the classes much better than in the reference: AUC above it by "
        f"{policy.margin:.0%} of the distance to 1, at level {policy.level:g}"
    )
    if separations is None:
        note = "Not judged: the evaluation has no AUC of single features."
        return Check(name, rule, True, note=note)
    if not separations.parts:
        return Check(name, rule, True, note="Not judged: too few rows of a class.")
    areas = list(_areas(separations))
    if not is_known(*(each.area for each in areas), *(each.known for each in areas)):
        return Check(name, rule, False, note=missing_note(None))
    leaks = [
        each
        for each in areas
        if each.p * len(areas) <= policy.level and each.area >= _bound(policy, each)
    ]
    worst = min(leaks or areas, key=lambda each: each.p)
    return Check(
        name,
        rule,
        not leaks,
        challenger=worst.area,
        bound=(bound := _applied_bound(policy, worst, separations.reference, len(areas))),
        note=_note(leaks) if leaks else _nearest(policy, worst, bound),
    )


def _applied_bound(
    policy: LeakPolicy, area: _Area, reference: Separation, areas: int
) -> float | None:
    """The area from which the check fails; None where so few rows have any area by chance."""
    quantile = -_NORMAL.inv_cdf(policy.level / areas / 2.0)
    angle = math.asin(math.sqrt(area.known)) + quantile * _spread(area.known, reference, area.part)
    return None if angle > math.pi / 2 else max(_bound(policy, area), math.sin(angle) ** 2)


def _bound(policy: LeakPolicy, area: _Area) -> float:
    return area.known + policy.margin * (1.0 - area.known)


def _nearest(policy: LeakPolicy, area: _Area, bound: float | None) -> str:
    note = f"Nearest to it: {area.feature}, {area.known:.2f} in the reference, {area.where}"
    if area.area < _bound(policy, area):
        return f"{note}."
    if bound is None:
        return f"{note}; chance may separate so few rows wholly."
    return f"{note}; in so few rows chance may do that, up to {bound:.3f}."


def _note(leaks: list[_Area]) -> str:
    """The most certain finding of each feature."""
    best: dict[str, _Area] = {}
    for each in sorted(leaks, key=lambda one: one.p):
        best.setdefault(each.feature, each)
    shown = [str(each) for each in list(best.values())[:_SHOWN]]
    if more := len(best) - len(shown):
        shown.append(f"{counted(more, 'more feature does', 'more features do')}.")
    return " ".join(shown)


def _areas(separations: Separations) -> Iterator[_Area]:
    reference = separations.reference
    for part in separations.parts:
        for feature, known, area in zip(
            separations.features, reference.areas, part.areas, strict=True
        ):
            p = _tail(known, area, reference, part) if is_known(known, area) else 0.0
            yield _Area(feature, part, area, known, p)


def _tail(known: float, area: float, reference: Separation, part: Separation) -> float:
    """Tail probability of an area, on the scale on which the variance of a share is constant.

    On the areas' own scale the variance near 1 is overestimated, and no area of a small batch
    would ever be significant.
    """
    spread = _spread(known, reference, part)
    distance = math.asin(math.sqrt(area)) - math.asin(math.sqrt(known))
    # Two-sided.
    return 1.0 if math.isinf(spread) else min(1.0, 2.0 * _NORMAL.cdf(-distance / spread))


def _spread(known: float, reference: Separation, part: Separation) -> float:
    """Standard deviation of the difference of two areas on that scale; infinite if unknown."""
    variance = sum(
        area_variance(known, each.positive_rows, each.rows - each.positive_rows)
        for each in (reference, part)
    )
    slope = 2.0 * math.sqrt(known * (1.0 - known))
    return math.sqrt(variance) / slope if variance > 0.0 and slope else math.inf


def plausible_brier(policy: LeakPolicy, score: Score) -> Check:
    """The Brier score in cross-validation is not far below what the problem's rows allow."""
    rows, brier = len(score.keys), score.metrics.get("brier")
    least = policy.least_share * policy.brier
    error = policy.least_share * policy.deviation / math.sqrt(rows) if rows else math.inf
    bound = least + _NORMAL.inv_cdf(policy.level) * error
    name = "plausible_brier"
    rule = (
        f"Brier score in cross-validation not below {policy.least_share:g} of the "
        f"{policy.brier:g} of the reference rows, at level {policy.level:g}"
    )
    if not is_known(brier):
        return Check(name, rule, False, challenger=brier, note=missing_note(brier))
    if bound <= 0.0:
        note = f"Not judged: {counted(rows, 'row')} may have any Brier score by chance."
        return Check(name, rule, True, challenger=brier, note=note)
    passed = at_least(brier, bound)
    note = "" if passed else "Too good to be true: look for features that were made from the label."
    return Check(name, rule, passed, challenger=brier, bound=bound, note=note)
