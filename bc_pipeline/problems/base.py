"""`Problem`: everything that differs between prediction problems, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from bc_pipeline.errors import ConfigError
from bc_pipeline.labels import Labels
from bc_pipeline.problems.class_profile import ClassProfile
from bc_pipeline.schema import FeatureSchema, json_digest
from bc_pipeline.source_digest import source_digest

if TYPE_CHECKING:
    import numpy as np

Params = Mapping[str, Any]
Direction = Literal["at_least", "at_most"]
Rows = Literal["holdout", "cross_validation", "nested"]


@dataclass(frozen=True)
class Candidate:
    """A recipe that is compared with others and may become the model.

    Attributes
    ----------
    name : str
        Short name, used in version names, task labels and MLflow runs.
    title : str
        Name for people.
    complexity : int
        Rank among the candidates; the lowest within noise of the best is chosen.
    params : mapping
        JSON values; arguments of `build`.
    build : callable
        ``build(params, seed)`` returns an unfitted scikit-learn estimator with all steps,
        scalers included. It imports scikit-learn when called.
    """

    name: str
    title: str
    complexity: int
    params: Params
    build: Callable[[Params, int], Any]

    @property
    def recipe(self) -> str:
        """Name of the recipe: that of the candidate, and a digest of its parameters."""
        return f"{self.name}-{json_digest(dict(self.params))[:8]}"

    @property
    def source(self) -> str | None:
        """Digest of the builder's source; two recipes of one name may be built differently."""
        return source_digest(self.build)


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


@dataclass(frozen=True)
class Slice:
    """A named subset of the rows on which the model is scored separately.

    The rows whose value of one feature is between two quantiles of the train rows.
    """

    name: str
    feature: str
    low_quantile: float
    high_quantile: float


@dataclass(frozen=True)
class Study:
    """The origin of the problem's data, for the model card (TRIPOD+AI, 2024).

    Attributes
    ----------
    setting, dates, eligibility, reference_standard : str
        One sentence or two each; what the source does not tell is said to be unknown.
    limits : tuple of str
        Sentences about what the data cannot show.
    prevalences : tuple of float
        Shares of positive samples that predictive values are stated for.
    """

    setting: str
    dates: str
    eligibility: str
    reference_standard: str
    limits: tuple[str, ...]
    prevalences: tuple[float, ...]


@dataclass(frozen=True)
class Reference:
    """The problem's public data set, from a library.

    Attributes
    ----------
    values : array of float64, shape (n, n_features)
        In schema order.
    codes : array of int, shape (n,)
        Outside label codes.
    """

    values: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that differs between prediction problems.

    Problems are compared by identity, so that they can be keys of caches.

    Attributes
    ----------
    name : str
        Prefix of the DAG ids and name of the folders on the volume.
    decision_threshold_cost : float
        Threshold probability at which net benefit is reported: one missed positive
        weighs ``(1 - t) / t`` false alarms (Vickers and Elkin, 2006).
    batch_check : BatchCheckPolicy, optional
        Without one, batches are not judged by themselves.
    near_twins : NearTwinPolicy, optional
        Without one, only rows with equal keys are of the same sample.
    requires_approval : bool
        Whether a person decides about each release. A run can require it too, and not waive it.
    profile : ClassProfile or None
        Labels are held against it until there is a champion; None: that of the reference rows.
    """

    name: str
    title: str
    schema: FeatureSchema
    labels: Labels
    load_reference: Callable[[], Reference]
    candidates: tuple[Candidate, ...]
    split: SplitPolicy
    selection: SelectionPolicy
    gate: GatePolicy
    slices: tuple[Slice, ...]
    decision_threshold_cost: float
    study: Study
    near_twins: NearTwinPolicy | None = None
    profile: ClassProfile | None = None
    batch_check: BatchCheckPolicy | None = None
    requires_approval: bool = False

    @cached_property
    def class_profile(self) -> ClassProfile:
        """The profile that the problem has without any batch."""
        if self.profile is not None:
            return self.profile
        reference = self.load_reference()
        positive = self.labels.to_positive(reference.codes).astype(bool)
        return ClassProfile.of_rows(reference.values, positive)

    def candidate(self, name: str, params: Params | None = None) -> Candidate:
        """The candidate of that name.

        Parameters
        ----------
        params : mapping, optional
            Others than today's, as an earlier recipe had them.

        Raises
        ------
        ConfigError
            Listing the names there are.
        """
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate if params is None else replace(candidate, params=params)
        known = ", ".join(candidate.name for candidate in self.candidates)
        raise ConfigError(
            f"{self.name} has no candidate {name!r}.", f"Use one of: {known}.", setting="candidate"
        )
