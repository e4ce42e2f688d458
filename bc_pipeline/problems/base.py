"""What a prediction problem is: a frozen value that generic code asks and never inspects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from bc_pipeline.errors import ConfigError
from bc_pipeline.schema import FeatureSchema, Labels

if TYPE_CHECKING:
    import numpy as np

Params = Mapping[str, Any]
Direction = Literal["at_least", "at_most"]
Rows = Literal["holdout", "cross_validation"]


def _digest(plain: Any) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Candidate:
    """A recipe that may become the model.

    Attributes
    ----------
    name : str
        Short name, used in version names, task labels and MLflow runs.
    title : str
        What a person calls it.
    complexity : int
        Rank among the candidates; the lowest within noise of the best is chosen.
    params : mapping
        JSON values that `build` turns into an estimator.
    build : callable
        ``build(params, seed)`` gives an unfitted scikit-learn estimator that holds every
        fitted step, scalers included. It imports scikit-learn when called.
    """

    name: str
    title: str
    complexity: int
    params: Params
    build: Callable[[Params, int], Any]

    @property
    def recipe(self) -> str:
        """Identity of the recipe: its name and a digest of its parameters."""
        return f"{self.name}-{_digest(dict(self.params))[:8]}"


@dataclass(frozen=True)
class SplitPolicy:
    """Which rows are held out: a fixed share of the hash space under a pinned salt."""

    salt: str
    holdout_share: float


@dataclass(frozen=True)
class SelectionPolicy:
    """How candidates are compared on train rows, and how the threshold is set.

    Attributes
    ----------
    folds, repeats, seed : int
        Repeated stratified cross-validation; the folds are the same for every candidate.
    sensitivity_target : float
        The threshold is the highest one whose out-of-fold calls reach this sensitivity.
    noise_alpha : float
        A simpler candidate is "within noise" of the best unless the corrected resampled
        t-test on `metric` tells them apart at this level.
    metric : str
        Per-row loss that is compared: lower is better.
    """

    folds: int
    repeats: int
    seed: int
    sensitivity_target: float
    noise_alpha: float
    metric: Literal["brier"] = "brier"


@dataclass(frozen=True)
class Floor:
    """An absolute bound that every challenger must meet, the first one too."""

    metric: str
    rows: Rows
    bound: float
    direction: Direction = "at_least"


@dataclass(frozen=True)
class Margin:
    """How much worse than the champion a challenger may be on the same holdout rows.

    The check fails when the loss is beyond `margin` as a point value, or when the paired
    bootstrap interval of the loss lies wholly above `negligible`.

    Attributes
    ----------
    negligible : float
        A loss this small does no harm, however sure it is. Two fits of one recipe to nearly
        the same rows differ in every probability by a trifle, and in a smooth metric such as
        the Brier score the bootstrap is sure of a trifle.
    """

    metric: str
    margin: float
    better: Literal["higher", "lower"]
    negligible: float = 0.0


@dataclass(frozen=True)
class GatePolicy:
    """What a challenger must show; data, so that its digest can stand in every verdict.

    Attributes
    ----------
    floors : tuple of Floor
    f1_tie : float
        The challenger's F1 may lie this far below the champion's on the same holdout rows
        and still count as equal: a call or two.
    margins : tuple of Margin
        Non-inferiority against the champion on the holdout.
    switch_alpha : float
        One-sided level at which another recipe must beat the champion's recipe in paired
        repeated cross-validation; anything less is a tie, and a tie keeps the champion.
    slice_minimum_rows : int
        Slices with fewer positive rows than this are shown but not judged.
    slice_sensitivity : float
        Floor of the sensitivity of the worst judged slice.
    parity_bound : float
        Largest difference allowed between exported and fitted probabilities.
    smoke_latency_ms : float
        Median answer time allowed to the real service on the golden rows.
    bootstrap_rounds, bootstrap_seed, level
        Of every interval.
    advisory : frozenset of str
        Names of checks that are shown but do not block.
    """

    floors: tuple[Floor, ...]
    f1_tie: float
    margins: tuple[Margin, ...]
    switch_alpha: float
    slice_minimum_rows: int
    slice_sensitivity: float
    parity_bound: float
    smoke_latency_ms: float
    bootstrap_rounds: int = 2000
    bootstrap_seed: int = 20240229
    level: float = 0.95
    advisory: frozenset[str] = frozenset()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the policy as data."""
        return _digest(asdict(self) | {"advisory": sorted(self.advisory)})


@dataclass(frozen=True)
class Slice:
    """A named part of the rows on which the model is looked at separately.

    The part is a band of one feature, between two quantiles of the train rows.
    """

    name: str
    feature: str
    low_quantile: float
    high_quantile: float


@dataclass(frozen=True)
class Reference:
    """Labelled rows that ship with a library, as the problem's public data set.

    Attributes
    ----------
    values : array of float64, shape (n, n_features)
        In schema order.
    codes : array of int, shape (n,)
        Outside label codes.
    """

    values: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True)
class Problem:
    """Everything that differs between one prediction problem and another.

    Attributes
    ----------
    name : str
        Prefix of the DAG ids and name of the folders on the volume.
    decision_threshold_cost : float
        Threshold probability at which net benefit is reported: one missed positive
        weighs ``(1 - t) / t`` false alarms (Vickers and Elkin, 2006).
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

    def candidate(self, name: str) -> Candidate:
        """The candidate of that name.

        Raises
        ------
        ConfigError
            Listing the names there are.
        """
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        known = ", ".join(candidate.name for candidate in self.candidates)
        raise ConfigError(
            f"{self.name} has no candidate {name!r}.", f"Use one of: {known}.", setting="candidate"
        )
