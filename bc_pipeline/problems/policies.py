"""What a problem requires, as data: the split, selection, checks of batches, and the gate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from bc_pipeline.schema import json_digest

if TYPE_CHECKING:
    import numpy as np

Direction = Literal["at_least", "at_most"]
Rows = Literal["holdout", "cross_validation", "nested"]


@dataclass(frozen=True)
class SplitPolicy:
    """The holdout: a fixed share of the hash space with a pinned salt."""

    salt: str
    holdout_share: float


@dataclass(frozen=True)
class NearTwinPolicy:
    """When two rows are near-twins: records of the same sample at different precision.

    They are where the values of every feature differ by ``absolute + relative * |value|`` at
    most. Each of two records may be off from the sample's values, so the tolerance is twice the
    error of one: `absolute` is a unit of the last decimal place that is expected of a coarse
    record, and `relative` twice its relative error.

    Attributes
    ----------
    relative : float
    absolute : float
        In the unit of the feature, the same number for every feature.
    """

    relative: float
    absolute: float

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Scale values such that near-twins differ by 1 at most in every feature.

        The scale's derivative is the inverse of the tolerance: it is a logarithm for large
        values and linear near zero.

        Parameters
        ----------
        values : array of float64, any shape
        """
        import numpy as np

        size = np.log1p(np.abs(values) * (self.relative / self.absolute)) / self.relative
        scaled: np.ndarray = np.copysign(size, values)
        return scaled

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the policy as data."""
        return json_digest(asdict(self))


@dataclass(frozen=True)
class BatchCheckPolicy:
    """When a batch is held before it counts.

    Attributes
    ----------
    level : float
        Bound on the probability that a clean batch is held.
    minimum_rows : int
        Batches with fewer new rows are judged together, once they have as many.
    """

    level: float = 0.01
    minimum_rows: int = 25


@dataclass(frozen=True)
class SelectionPolicy:
    """Comparison of candidates on train rows, and choice of the threshold.

    Attributes
    ----------
    folds, repeats, seed : int
        Repeated stratified cross-validation; the folds are the same for every candidate.
    sensitivity_target : float
        The threshold is the highest one at which a new positive row is called with this
        probability, by its rank among the out-of-fold ones.
    noise_alpha : float
        A simpler candidate is "within noise" of the best unless the corrected resampled
        t-test on the Brier losses finds a difference at this level.
    """

    folds: int
    repeats: int
    seed: int
    sensitivity_target: float
    noise_alpha: float


@dataclass(frozen=True)
class Floor:
    """An absolute bound that every challenger must meet, including the first.

    Attributes
    ----------
    rows : str
        ``nested`` has metrics of calls alone: neither model nor threshold saw the row.
    proven : float or None
        For a sensitivity or specificity: what its one-sided 95 % lower bound must reach, so that
        a few rows without an error are no evidence.
    """

    metric: str
    rows: Rows
    bound: float
    direction: Direction = "at_least"
    proven: float | None = None


@dataclass(frozen=True)
class Margin:
    """How much worse than the champion a challenger may be on the same holdout rows.

    The check fails where the loss is larger than `margin`, or where the paired bootstrap
    interval of the loss is entirely above `negligible`.

    Attributes
    ----------
    negligible : float
        A loss up to this is accepted even if it is significant. Two fits of one recipe to
        nearly the same rows differ a little in every probability, and in a smooth metric such
        as the Brier score the bootstrap finds that difference significant.
    rows : {"holdout", "cross_validation"}
        Cross-validation only for the anchor.
    """

    metric: str
    margin: float
    better: Literal["higher", "lower"]
    negligible: float = 0.0
    rows: Rows = "holdout"


@dataclass(frozen=True)
class LeakPolicy:
    """When a challenger is too good to be true, because a feature was made from the label.

    A single feature tells the label where the area under its ROC curve is both significantly above
    that of the reference rows and above it by more than `margin`. The whole model is too good where
    its Brier score is significantly below `least_share` of `brier`.

    Attributes
    ----------
    level : float
        Probability that clean rows fail either check, each by itself; approximately.
    margin : float
        As a share of the distance from the feature's area in the reference to 1.
    minimum_rows : int
        Batches with fewer rows are judged together.
    brier, deviation : float
        Mean and standard deviation, over the reference rows, of the squared error of the best
        recipe in cross-validation.
    least_share : float
        The share of `brier` that no recipe is expected to go below.
    """

    brier: float
    deviation: float
    level: float = 0.001
    margin: float = 1 / 3
    minimum_rows: int = 25
    least_share: float = 0.5


@dataclass(frozen=True)
class GatePolicy:
    """Requirements for a challenger, as data: every verdict has the policy's digest.

    Attributes
    ----------
    floors : tuple of Floor
    f1_tie : float
        The challenger's F1 may lie this far below the champion's on the same holdout rows
        and still count as equal.
    margins : tuple of Margin
        Non-inferiority against the champion on the holdout.
    anchor_margins : tuple of Margin
        The most that a chain of refreshes may lose against the anchor.
    switch_alpha : float
        One-sided level at which another recipe must beat the champion's recipe in paired
        repeated cross-validation; otherwise the champion stays.
    sequential_alpha : float
        Level at which rows that came one after the other may show the same instead, however often
        they are looked at, for all other recipes together. 0 where they are not counted.
    slice_minimum_rows : int
        Slices with fewer positive rows than this are shown but not checked.
    subgroup_minimum_rows : int
        The same for subgroups by metadata, of which there may be many.
    slice_sensitivity : float
        Floor of the sensitivity of the worst checked slice and subgroup.
    parity_bound : float
        Largest allowed difference between exported and fitted probabilities.
    smoke_latency_ms : float
        Largest allowed median response time of the service on the golden rows.
    leak : LeakPolicy, optional
        Without one, no challenger is too good.
    bootstrap_rounds, bootstrap_seed, level
        Number of resamples, seed and coverage of every bootstrap interval.
    advisory : frozenset of str
        Names of checks that do not block.
    """

    floors: tuple[Floor, ...]
    f1_tie: float
    margins: tuple[Margin, ...]
    switch_alpha: float
    slice_minimum_rows: int
    slice_sensitivity: float
    parity_bound: float
    smoke_latency_ms: float
    subgroup_minimum_rows: int = 20
    anchor_margins: tuple[Margin, ...] = ()
    sequential_alpha: float = 0.0
    leak: LeakPolicy | None = None
    bootstrap_rounds: int = 2000
    bootstrap_seed: int = 20240229
    level: float = 0.95
    advisory: frozenset[str] = frozenset()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the policy as data."""
        return json_digest(asdict(self) | {"advisory": sorted(self.advisory)})
