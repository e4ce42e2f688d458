"""`Problem`: everything that differs between prediction problems, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bc_pipeline.errors import ConfigError
from bc_pipeline.labels import Labels
from bc_pipeline.problems.class_profile import ClassProfile
from bc_pipeline.problems.policies import (
    BatchCheckPolicy,
    GatePolicy,
    NearTwinPolicy,
    SelectionPolicy,
    SplitPolicy,
)
from bc_pipeline.schema import FeatureSchema, json_digest
from bc_pipeline.source_digest import source_digest

if TYPE_CHECKING:
    import numpy as np

Params = Mapping[str, Any]


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
