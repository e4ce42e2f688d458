"""Whether the rows of a batch are distributed as the reference rows are.

The expectation suite sees a batch only together with all earlier rows, among which a small one
goes unnoticed. Here a batch is compared with the reference by itself, by tests that hold at any
number of rows: each p-value is exact, or conservative, where batch and reference are draws of one
population. The level of the policy is shared among the tests, and within a test by Bonferroni's
inequality among its statistics, so that it bounds the probability that a clean batch has a finding.

Features are transformed by a logarithm and compared

- within the classes: less the mean of their class in the reference;
- given the other features: less their regression on those and the label. This finds values that are
  plausible by themselves, such as a tenth of one column times ten, or columns of other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from bc_pipeline.data.class_separation import area_variance, class_areas
from bc_pipeline.problems.policies import BatchCheckPolicy

# Shares of the level: together 1.
_SHARES = {
    "share of positive labels": 0.3,
    "distribution within the classes": 0.1,
    "distribution given the other features": 0.1,
    "extreme values": 0.25,
    "repeated values": 0.1,
    "decimal places": 0.1,
    "tells the label": 0.05,
}
MAGNITUDE = "too small for a measurement"
LEAK = "tells the label"
# How many of the most extreme rows of both are looked at, as parts of the batch's number of rows.
_TAILS_WITHIN_CLASSES = (0.25,)
_TAILS_GIVEN_OTHERS = (0.08, 0.25)
_FOLDS = 10
# A regression needs this many reference rows for each feature.
_ROWS_PER_FEATURE = 3
# A value that occurs less often cannot be significant.
_FEWEST_REPEATS = 4
_DECIMALS = range(-3, 10)
_ROUNDING = 1e-12
# A number this much smaller than every nonzero one of the reference is not measured.
_MAGNITUDE = 1e-6


@dataclass(frozen=True)
class Finding:
    """How a batch differs from the reference.

    Attributes
    ----------
    test : str
    feature : str or None
        None: about the labels.
    statistic : float
        Share of positive labels, Kolmogorov-Smirnov distance, share of the extreme rows that are of
        the batch, number of rows with one value, or area under the ROC curve of one feature.
    p : float
        Bound on the probability that the check finds anything so unlikely in a clean batch, over
        all tests: a finding has `level` at most. 0 for a rule that no clean batch breaks.
    """

    test: str
    feature: str | None
    statistic: float
    p: float


@dataclass(frozen=True, eq=False)
class CheckedRows:
    """Labelled rows as the check needs them.

    Attributes
    ----------
    values : array of float64, shape (n, n_features)
    positive : array of bool, shape (n,)
    """

    values: np.ndarray
    positive: np.ndarray

    def __len__(self) -> int:
        return len(self.values)


_Result = tuple[str | None, float, float]
"""Feature, statistic, p-value."""


def check_batch(
    names: tuple[str, ...], reference: CheckedRows, batch: CheckedRows, policy: BatchCheckPolicy
) -> list[Finding]:
    """Compare a batch with reference rows; the most certain finding of each feature and test.

    Parameters
    ----------
    names : tuple of str
        Of the features.
    reference, batch : CheckedRows
        One row or more each.

    Returns
    -------
    list of Finding
        The most certain first; empty for all but a share of `policy.level` of clean batches.
    """
    scale = _log_scale(reference.values)
    old, new = scale(reference.values), scale(batch.values)
    centred = _within_classes(old, new, reference.positive, batch.positive)
    residuals = _given_others(old, new, reference.positive, batch.positive)
    results: dict[str, Iterator[_Result]] = {
        "share of positive labels": _prevalence(reference.positive, batch.positive),
        "distribution within the classes": _distances(names, *centred),
        "distribution given the other features": _distances(names, *residuals),
        "extreme values": chain(
            _extremes(names, *centred, _TAILS_WITHIN_CLASSES),
            _extremes(names, *residuals, _TAILS_GIVEN_OTHERS),
        ),
        "repeated values": _repeats(names, reference.values, batch.values),
        # Only fewer decimal places are looked for; a value rounded to tens has -1.
        "decimal places": _distances(
            names, count_decimals(reference.values), count_decimals(batch.values), only_lower=True
        ),
        LEAK: _separations(names, reference, batch),
    }
    findings = _magnitudes(names, reference.values, batch.values)
    for test, per_feature in results.items():
        listed = list(per_feature)
        best: dict[str | None, Finding] = {}
        for feature, statistic, p in listed:
            bound = min(1.0, p * len(listed) / _SHARES[test])
            if bound <= policy.level and (feature not in best or bound < best[feature].p):
                best[feature] = Finding(test, feature, statistic, bound)
        findings += best.values()
    return sorted(findings, key=lambda finding: finding.p)


def _log_scale(reference: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Logarithmic for values of the usual size, linear near zero, for either sign."""
    size = np.abs(reference)
    low = np.array([np.quantile(one[one > 0], 0.1) if (one > 0).any() else 1.0 for one in size.T])
    return lambda values: np.asarray(np.copysign(np.log1p(np.abs(values) / low), values))


def _within_classes(
    old: np.ndarray, new: np.ndarray, old_positive: np.ndarray, new_positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both, less the mean and in standard deviations of their class in the reference."""
    old, new = old.copy(), new.copy()
    for label in (True, False):
        rows = old[old_positive == label]
        if len(rows) < 2:
            continue
        mean, spread = rows.mean(axis=0), rows.std(axis=0)
        spread[_is_constant(rows)] = 1.0
        old[old_positive == label] = (rows - mean) / spread
        new[new_positive == label] = (new[new_positive == label] - mean) / spread
    return old, new


def _given_others(
    old: np.ndarray, new: np.ndarray, old_positive: np.ndarray, new_positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of each feature given the others and the label; no row has part in its own fit.

    No rows where the reference has too few.
    """
    old, new = np.column_stack([old, old_positive]), np.column_stack([new, new_positive])
    if len(old) < _ROWS_PER_FEATURE * old.shape[1]:
        return old[:0, :-1], new[:0, :-1]
    residuals = np.empty_like(old)
    for fold in range(_FOLDS):
        rows = np.arange(len(old)) % _FOLDS == fold
        residuals[rows] = _residuals(old[~rows], old[rows])
    return residuals[:, :-1], _residuals(old, new)[:, :-1]


def _residuals(fitted: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Standardized residuals of each column's regression on the others, from the precision matrix.

    Source: Lauritzen, "Graphical Models", 1996, section 5.1.3.
    """
    from sklearn.covariance import ledoit_wolf

    mean, spread = fitted.mean(axis=0), fitted.std(axis=0)
    constant = np.flatnonzero(_is_constant(fitted))
    spread[constant] = 1.0
    precision = np.linalg.pinv(ledoit_wolf((fitted - mean) / spread)[0])
    # No other column says anything about a constant one.
    precision[constant], precision[:, constant] = 0.0, 0.0
    precision[constant, constant] = 1.0
    return np.asarray((rows - mean) / spread @ precision / np.sqrt(np.diag(precision)))


def _is_constant(rows: np.ndarray) -> np.ndarray:
    """Whether each feature has one value in all rows; rounding can make its deviation nonzero."""
    return np.asarray(np.ptp(rows, axis=0) == 0)


def _prevalence(old: np.ndarray, new: np.ndarray) -> Iterator[_Result]:
    from scipy.stats import fisher_exact

    counts = [[int(part.sum()), int((~part).sum())] for part in (old, new)]
    yield None, float(new.mean()), float(fisher_exact(counts).pvalue)


def _distances(
    names: tuple[str, ...], old: np.ndarray, new: np.ndarray, *, only_lower: bool = False
) -> Iterator[_Result]:
    """Two-sample Kolmogorov-Smirnov distances, with the p-values of `scipy.stats.ks_2samp`.

    That function takes one feature at a time, fifty times as long. With `only_lower`, distances of
    a batch whose values are lower; their p-values are those of both directions, and so too large.
    """
    from scipy.stats import kstwo

    if not len(new):
        return
    old, new = np.sort(old, axis=0), np.sort(new, axis=0)
    distances = np.empty(len(names))
    for column in range(len(names)):
        of_old, of_new = old[:, column], new[:, column]
        values = np.concatenate([of_old, of_new])
        difference = np.searchsorted(of_new, values, "right") / len(new) - np.searchsorted(
            of_old, values, "right"
        ) / len(old)
        distances[column] = difference.max() if only_lower else np.abs(difference).max()
    rows = round(len(old) * len(new) / (len(old) + len(new)))
    tails = kstwo.sf(np.maximum(distances, 0.0), rows)
    yield from zip(names, distances.tolist(), tails.tolist(), strict=True)


def _extremes(
    names: tuple[str, ...], old: np.ndarray, new: np.ndarray, parts: tuple[float, ...]
) -> Iterator[_Result]:
    """How many of the lowest and of the highest rows of both are of the batch; hypergeometric."""
    from scipy.stats import hypergeom

    if not len(new):
        return
    total = len(old) + len(new)
    pooled = np.concatenate([old, new])
    for values in (pooled, -pooled):
        # The sort is stable: among equal values those of the reference are the more extreme.
        of_batch = np.argsort(values, axis=0, kind="stable") >= len(old)
        for part in parts:
            extreme = max(_FEWEST_REPEATS, round(part * len(new)))
            counts = of_batch[:extreme].sum(axis=0)
            tails = hypergeom.sf(counts - 1, total, len(new), extreme)
            yield from zip(names, (counts / extreme).tolist(), tails.tolist(), strict=True)


def _repeats(names: tuple[str, ...], old: np.ndarray, new: np.ndarray) -> Iterator[_Result]:
    """For each value that is frequent in both together, how many of its rows are of the batch."""
    from scipy.stats import hypergeom

    total = len(old) + len(new)
    for column, name in enumerate(names):
        values, which = np.unique(
            np.concatenate([old[:, column], new[:, column]]), return_inverse=True
        )
        everywhere = np.bincount(which, minlength=len(values))
        in_batch = np.bincount(which[len(old) :], minlength=len(values))
        frequent = everywhere >= _FEWEST_REPEATS
        tails = hypergeom.sf(in_batch[frequent] - 1, total, len(new), everywhere[frequent])
        for count, p in zip(in_batch[frequent].tolist(), tails.tolist(), strict=True):
            yield name, float(count), p


def count_decimals(values: np.ndarray) -> np.ndarray:
    """Decimal places of each value, negative for multiples of ten; array of int, any shape."""
    places = np.full(values.shape, _DECIMALS.stop)
    for decimals in reversed(_DECIMALS):
        exact = np.abs(np.round(values, decimals) - values) <= _ROUNDING * np.abs(values)
        places[exact] = decimals
    return places


def _separations(
    names: tuple[str, ...], reference: CheckedRows, batch: CheckedRows
) -> Iterator[_Result]:
    """Whether a feature separates the classes better than in the reference."""
    from scipy.stats import norm

    if any(part.all() or not part.any() for part in (reference.positive, batch.positive)):
        return
    known, areas = (class_areas(rows.values, rows.positive) for rows in (reference, batch))
    variance = sum(
        area_variance(known, int(rows.positive.sum()), int((~rows.positive).sum()))
        for rows in (reference, batch)
    )
    z = (areas - known) / np.sqrt(np.maximum(variance, np.finfo(float).tiny))
    # Two-sided: a leak may raise or lower the area.
    tails = np.minimum(1.0, 2 * norm.sf(z))
    yield from zip(names, areas.tolist(), tails.tolist(), strict=True)


def _magnitudes(names: tuple[str, ...], old: np.ndarray, new: np.ndarray) -> list[Finding]:
    """Nonzero numbers that are far smaller than any of the reference, such as subnormal ones."""
    findings = []
    for column, name in enumerate(names):
        known, size = np.abs(old[:, column]), np.abs(new[:, column])
        smallest = known[known > 0].min() if (known > 0).any() else np.inf
        count = int(((size > 0) & (size < smallest * _MAGNITUDE)).sum()) if smallest < np.inf else 0
        if count:
            findings.append(Finding(MAGNITUDE, name, float(count), 0.0))
    return findings
