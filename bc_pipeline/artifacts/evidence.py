"""Formats of ``evaluation.json`` and ``verdict.json``: what was measured and what was decided.

Evaluation fills an `Evaluation`, the gate turns it into a `Verdict`; a reviewer reads both
from the version's folder months later. A number that could not be computed is None, and
None fails every check it takes part in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

Kind = Literal["first", "refresh", "switch"]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every JSON record on the volume: immutable, and strict when read."""


def labelled_rows_digest(keys: Iterable[str], positive: Iterable[int]) -> str:
    """SHA-256 over the keys and labels of rows, in order: which rows evidence is about."""
    text = "".join(f"{key}:{int(label)}\n" for key, label in zip(keys, positive, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()


class Interval(Record, frozen=True):
    """A two-sided confidence interval; `level` is its coverage, such as 0.95."""

    low: float | None
    high: float | None
    level: float


class Confusion(Record, frozen=True):
    """Counts of calls; the positive class is malignant."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


class CalibrationBin(Record, frozen=True):
    """Rows whose probability falls in one bin: mean probability against observed share."""

    low: float
    high: float
    rows: int
    mean_probability: float | None
    observed_share: float | None


class SliceScore(Record, frozen=True):
    """Sensitivity and specificity on a named part of the rows."""

    name: str
    rows: int
    positive_rows: int
    sensitivity: float | None
    specificity: float | None


class Score(Record, frozen=True):
    """One model on one set of rows.

    Attributes
    ----------
    rows_digest : str
        SHA-256 over the keys and labels of the rows, in order: equal digests mean that
        two scores are about the same rows.
    keys : tuple of str
    positive : tuple of int
        1 where the row is malignant.
    probability : tuple of float
        Of malignant, per row: kept so that any later question can be answered.
    metrics : dict of str to float or None
        ``accuracy precision sensitivity specificity f1 f1_benign roc_auc brier
        calibration_error net_benefit``; positive class malignant, except in ``f1_benign``.
    intervals : dict of str to Interval
        Seeded percentile bootstrap over rows, for each metric.
    sensitivity_lower_bound : float or None
        One-sided exact (Clopper-Pearson) 95 % lower bound.
    """

    rows_digest: str
    threshold: float
    keys: tuple[str, ...]
    positive: tuple[int, ...]
    probability: tuple[float, ...]
    confusion: Confusion
    metrics: dict[str, float | None]
    intervals: dict[str, Interval]
    sensitivity_lower_bound: float | None
    calibration: tuple[CalibrationBin, ...]
    slices: tuple[SliceScore, ...]


class Comparison(Record, frozen=True):
    """Champion against challenger on the same rows, for one metric.

    Attributes
    ----------
    gain : float or None
        How much better the challenger is: positive is better, whatever the metric.
    interval : Interval or None
        Of the gain.
    p_value : float or None
        One-sided, that the challenger is not better.
    """

    metric: str
    method: Literal["paired_bootstrap", "corrected_resampled_t"]
    champion: float | None
    challenger: float | None
    gain: float | None
    interval: Interval | None = None
    p_value: float | None = None


class Side(Record, frozen=True):
    """Champion or challenger: which model, made of what, and its score on the holdout."""

    version: str
    recipe: str
    title: str
    dataset: str
    as_of: str
    schema_fingerprint: str
    holdout: Score


class Parity(Record, frozen=True):
    """Largest difference between exported and fitted probabilities, and label flips."""

    rows: int
    worst_difference: float
    flips: int


class Evaluation(Record, frozen=True, kw_only=True):
    """All that the gate may look at; the format of ``evaluation.json``.

    Attributes
    ----------
    cross_validation : Score
        Pooled out-of-fold calls of the challenger's recipe on train rows, at the frozen
        threshold.
    holdout_comparisons : tuple of Comparison
        Empty for the first model.
    recipe_comparison : Comparison or None
        Paired repeated cross-validation of both recipes on identical folds; only where
        the recipes differ.
    """

    format: int = 1
    problem: str
    challenger: Side
    champion: Side | None
    champion_generation: int
    cross_validation: Score
    holdout_comparisons: tuple[Comparison, ...]
    recipe_comparison: Comparison | None
    parity: Parity


class Smoke(Record, frozen=True):
    """What the real service answered on the golden rows."""

    passed: bool
    rows: int
    worst_difference: float | None
    median_ms: float | None
    reason: str = ""


class Check(Record, frozen=True):
    """One line of a verdict.

    Attributes
    ----------
    blocking : bool
        An advisory check is shown but does not block.
    rule : str
        The rule in words, such as ``"sensitivity on the holdout at least 0.9"``.
    """

    name: str
    rule: str
    passed: bool
    blocking: bool
    champion: float | None = None
    challenger: float | None = None
    interval: Interval | None = None
    bound: float | None = None
    note: str = ""


class Verdict(Record, frozen=True, kw_only=True):
    """The gate's decision; the format of ``verdict.json``.

    Attributes
    ----------
    better : bool
        Whether the evidence shows that the challenger is better; a refresh may pass
        without being better.
    reasons : tuple of str
        For a rejection, the rule of each failed blocking check.
    """

    format: int = 1
    problem: str
    kind: Kind
    passed: bool
    better: bool
    challenger: str
    champion: str | None
    champion_generation: int
    policy_digest: str
    rows_digest: str
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
