"""The format of ``evaluation.json``: measurements, from which the gate derives a verdict.

A number that could not be computed is None, and None fails every check that uses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

from bc_pipeline.artifacts.document import Document


def labelled_rows_digest(keys: Iterable[str], positive: Iterable[int]) -> str:
    """SHA-256 over the keys and labels of rows, in order: identifies the rows of a score."""
    text = "".join(f"{key}:{int(label)}\n" for key, label in zip(keys, positive, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()


class Interval(Document, frozen=True):
    """A two-sided confidence interval; `level` is its coverage, such as 0.95."""

    low: float | None
    high: float | None
    level: float


class Confusion(Document, frozen=True):
    """Counts of calls; of the positive class."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


class CalibrationBin(Document, frozen=True):
    """Rows whose probability falls in one bin: mean probability against observed share."""

    low: float
    high: float
    rows: int
    mean_probability: float | None
    observed_share: float | None


class SliceScore(Document, frozen=True):
    """Sensitivity and specificity on a named part of the rows.

    Attributes
    ----------
    sensitivity_interval, specificity_interval : Interval or None
        None in evaluations of release 0.1.
    metadata : str
        Column of metadata by which the rows were chosen; empty where it was a feature.
    """

    name: str
    rows: int
    positive_rows: int
    sensitivity: float | None
    specificity: float | None
    sensitivity_interval: Interval | None = None
    specificity_interval: Interval | None = None
    metadata: str = ""


class Recalibration(Document, frozen=True):
    """Logistic regression of the label on the logit of the probability.

    Attributes
    ----------
    slope : float
        1 where probabilities are as spread as they should be, less where they are too extreme.
    slope_error : float
        Standard error.
    intercept : float
        Of the fit with slope 1: 0 where they fit on average, above 0 where they are too low.
    """

    slope: float
    slope_error: float
    intercept: float


class Score(Document, frozen=True):
    """One model on one set of rows.

    Attributes
    ----------
    rows_digest : str
        `labelled_rows_digest` of the rows: scores with equal digests are of the same rows.
    keys : tuple of str
    positive : tuple of int
        1 where the row is of the positive class.
    probability : tuple of float
        Of the positive class, per row: any other metric can be computed from them.
    metrics : dict of str to float or None
        ``accuracy precision sensitivity specificity f1 f1_negative roc_auc brier
        calibration_error net_benefit``; earlier releases named ``f1_negative`` after its label.
    intervals : dict of str to Interval
        Of each metric but ``calibration_error``, whose estimate is biased: by the methods of
        `bc_pipeline.evaluation.intervals`. In release 0.1 a percentile bootstrap of each.
    sensitivity_lower_bound : float or None
        One-sided exact (Clopper-Pearson) 95 % lower bound.
    recalibration : Recalibration or None
        None where the probabilities separate the classes, and in evaluations of release 0.1.
    treat_all : float or None
        Net benefit of calling every row positive; None in evaluations of release 0.1.
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
    recalibration: Recalibration | None = None
    treat_all: float | None = None


class CallScore(Document, frozen=True):
    """Calls of one recipe on one set of rows, at thresholds that differ by fold.

    Attributes
    ----------
    metrics : dict of str to float or None
        ``accuracy precision sensitivity specificity f1 f1_negative``.
    intervals : dict of str to Interval
        Of each metric.
    """

    rows_digest: str
    confusion: Confusion
    metrics: dict[str, float | None]
    intervals: dict[str, Interval]


class Comparison(Document, frozen=True):
    """Champion against challenger on the same rows, for one metric.

    Attributes
    ----------
    gain : float or None
        Improvement of the challenger: positive is better for every metric.
    interval : Interval or None
        Of the gain.
    p_value : float or None
        One-sided, that the challenger is not better.
    standard_error : float or None
        Of the gain, by the test of `method`. None for resamples, and in evaluations of release 0.1.
    """

    metric: str
    method: Literal["paired_bootstrap", "corrected_resampled_t"]
    champion: float | None
    challenger: float | None
    gain: float | None
    interval: Interval | None = None
    p_value: float | None = None
    standard_error: float | None = None


class Side(Document, frozen=True):
    """Champion or challenger: its version, recipe and data, and its score on the holdout."""

    version: str
    recipe: str
    title: str
    dataset: str
    as_of: str
    schema_fingerprint: str
    holdout: Score


class Parity(Document, frozen=True):
    """Largest difference between exported and fitted probabilities, and label flips."""

    rows: int
    worst_difference: float
    flips: int


class SequentialEvidence(Document, frozen=True, kw_only=True):
    """Two recipes on train rows in the order in which they came, each row predicted once.

    Attributes
    ----------
    rows : int
        Rows that the models of both recipes predicted before they were trained on them.
    champion, challenger : float or None
        Brier scores on those rows; None where there are none.
    log_e : float
        Logarithm of the e-value against the null hypothesis that the challenger's recipe is not
        better on new rows (`betting_test`).
    recipes : int
        Number of recipes that are compared with the champion's, of which any could be found
        better by chance.
    """

    rows: int
    champion: float | None
    challenger: float | None
    log_e: float
    recipes: int


class RecipeIdentity(Document, frozen=True, kw_only=True):
    """Whether this code builds what the champion's recipe was.

    Attributes
    ----------
    same : bool
        Whether a candidate has the champion's name and the same builder, which is known by the
        digest of its source or by `difference`. It can be built with the champion's parameters.
    difference : float or None
        Largest difference between the champion's probabilities and those of the builder fitted
        to the champion's train rows; only where the digests are not equal.
    libraries : dict of str to (str, str)
        Those of another version: the champion's and today's.
    note : str
        What is known, in words.
    """

    same: bool
    difference: float | None = None
    libraries: dict[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    note: str = ""


class AnchorComparison(Document, frozen=True, kw_only=True):
    """The anchor against the challenger; in each `Comparison` the anchor is the champion.

    Attributes
    ----------
    version : str
    holdout : tuple of Comparison
        On the same holdout rows.
    cross_validation : tuple of Comparison
        Out of fold, on the train rows of the challenger that the anchor was trained on too.
    shared_rows : int
        The number of these train rows.
    note : str
        Why nothing was compared; empty where it was.
    required : bool
        Whether a person set the anchor: then it must be there.
    """

    version: str
    holdout: tuple[Comparison, ...] = ()
    cross_validation: tuple[Comparison, ...] = ()
    shared_rows: int = 0
    note: str = ""
    required: bool = True


class Separation(Document, frozen=True, kw_only=True):
    """How well each feature by itself separates the classes in some rows.

    Attributes
    ----------
    batches : tuple of str
        That the rows came with; empty where they are not of particular batches.
    areas : tuple of float
        Area under the ROC curve of each feature, in its better direction.
    """

    rows: int
    positive_rows: int
    areas: tuple[float, ...]
    batches: tuple[str, ...] = ()


class Separations(Document, frozen=True, kw_only=True):
    """The areas of single features in the dataset and in the problem's reference rows.

    Attributes
    ----------
    features : tuple of str
        In the order of the areas.
    reference : Separation
    parts : tuple of Separation
        All rows of the dataset, train and holdout; then those of each batch, of small ones
        together. Without those that have too few rows of a class.
    """

    features: tuple[str, ...]
    reference: Separation
    parts: tuple[Separation, ...]


class Evaluation(Document, frozen=True, kw_only=True):
    """Everything that the gate decides by; the format of ``evaluation.json``.

    Attributes
    ----------
    cross_validation : Score
        Pooled out-of-fold calls of the challenger's recipe on train rows, at the frozen
        threshold, which the same rows set.
    nested : CallScore or None
        Calls of the recipe on train rows by nested cross-validation: neither the model nor the
        threshold of a call saw the row. None in evaluations of release 0.1.
    holdout_comparisons : tuple of Comparison
        Empty for the first model.
    recipe_comparison : Comparison or None
        Paired repeated cross-validation of both recipes on identical folds; only where
        the recipes differ.
    sequential : SequentialEvidence or None
        Only where the recipes differ and the problem's policy asks for it.
    recipe_identity : RecipeIdentity or None
        None for the first model, and in evaluations of release 0.1.0.
    anchor : AnchorComparison or None
        None for the first model, in evaluations of release 0.1.0, and where the problem's policy
        has no bound on the loss since the anchor.
    separations : Separations or None
        None in evaluations of release 0.1, and where the problem's policy has no rule on leaks.
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
    recipe_identity: RecipeIdentity | None = None
    anchor: AnchorComparison | None = None
    nested: CallScore | None = None
    sequential: SequentialEvidence | None = None
    separations: Separations | None = None
