"""Formats of ``manifest.json`` and ``registry.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.verdict import Kind
from bc_pipeline.errors import DegenerateModel
from bc_pipeline.labels import Label, Labels
from bc_pipeline.schema import FeatureSchema

if TYPE_CHECKING:
    import numpy as np

# Format 2 adds `Lineage.dag` to format 1, format 3 `Recipe.source` and of `Lineage`
# `split` and `refit`, and `Manifest.training_median`.
MANIFEST_FORMAT = 3
REGISTRY_FORMAT = 1


class FileEntry(Document, frozen=True):
    """Digest and size of one file of a version."""

    sha256: str
    size: int


class Recipe(Document, frozen=True):
    """The candidate that was fitted, with its parameters and seed.

    Attributes
    ----------
    source : str or None
        Digest of the builder's source; None in formats 1 and 2.
    """

    candidate: str
    title: str
    recipe: str
    params: dict[str, Any]
    seed: int
    source: str | None = None


class DagCode(Document, frozen=True):
    """The code of the DAG that ran, where Airflow ran it.

    Attributes
    ----------
    version_id : str
        Airflow's id of the DAG's version, for its pages and REST API.
    bundle : str or None
        Name of the bundle with the DAG's file; None where the DAG ran without one.
    bundle_version : str or None
        The commit of a Git bundle; None for a folder, which has no versions.
    sha256 : str
        Over the DAG's file and the package `bc_airflow`; `Lineage.code_version` covers the
        rest.
    """

    dag_id: str
    version_id: str
    bundle: str | None
    bundle_version: str | None
    sha256: str


class Lineage(Document, frozen=True):
    """The data, code and run that a version comes from.

    Attributes
    ----------
    as_of : str
        ISO 8601, UTC: rows that had arrived by then were used.
    live : bool
        False for a backfilled run: its version is judged and never promoted.
    validation : str
        Id of the expectation suite's result for the dataset.
    dag : DagCode or None
        None where no DAG ran, and in format 1.
    split : dict or None
        All fields of the split policy; None in formats 1 and 2, which have its salt.
    refit : bool
        True for the champion's recipe, fitted again beside the candidate that was selected.
    """

    dataset: str
    batches: tuple[str, ...]
    as_of: str
    split_salt: str
    train_rows: int
    holdout_rows: int
    validation: str
    code_version: str
    run_id: str
    interval_start: str | None
    interval_end: str | None
    live: bool
    dag: DagCode | None = None
    split: dict[str, Any] | None = None
    refit: bool = False


class Manifest(Document, frozen=True, kw_only=True):
    """Everything needed to verify and run a model without its Problem.

    Attributes
    ----------
    threshold : float
        See `DecisionRule`.
    training_range : dict of str to (float, float)
        Smallest and largest value of each feature among the train rows.
    training_median : dict of str to float
        Of each feature among the train rows; empty in formats 1 and 2.
    metrics : dict of str to float or None
        On the holdout.
    """

    format: int = MANIFEST_FORMAT
    problem: str
    version: str
    recipe: Recipe
    threshold: float
    labels: dict[str, Any]
    schema: dict[str, Any]
    schema_fingerprint: str
    training_range: dict[str, tuple[float, float]]
    metrics: dict[str, float | None]
    libraries: dict[str, str]
    lineage: Lineage
    files: dict[str, FileEntry]
    training_median: dict[str, float] = msgspec.field(default_factory=dict)

    @property
    def feature_schema(self) -> FeatureSchema:
        return FeatureSchema.from_dict(self.schema)

    @property
    def label_set(self) -> Labels:
        return Labels.from_dict(self.labels)

    @property
    def decision_rule(self) -> DecisionRule:
        return DecisionRule(self.version, self.recipe.candidate, self.threshold, self.label_set)


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """Decides the label: positive where the positive label's probability is above `threshold`.

    Attributes
    ----------
    version, candidate : str
        The model, for errors.
    """

    version: str
    candidate: str
    threshold: float
    labels: Labels

    def label(self, probability: float) -> Label:
        """The label of one probability of the positive class.

        Raises
        ------
        DegenerateModel
            Where it is not a number from 0 to 1.
        """
        if not 0.0 <= probability <= 1.0:
            raise self._degenerate()
        return self.labels.positive if probability > self.threshold else self.labels.negative

    def are_positive(self, probabilities: np.ndarray, rows: int) -> np.ndarray:
        """Whether each row is called positive.

        Parameters
        ----------
        probabilities : array of float64, shape (rows,)
            Of the positive class.
        rows : int
            Number of rows that were passed to the model.

        Returns
        -------
        array of bool, shape (rows,)

        Raises
        ------
        DegenerateModel
            Where the shape is another one, or a value is not a number from 0 to 1.
        """
        # A comparison with NaN is false.
        in_range = (probabilities >= 0.0) & (probabilities <= 1.0)
        if probabilities.shape != (rows,) or not in_range.all():
            raise self._degenerate()
        is_positive: np.ndarray = probabilities > self.threshold
        return is_positive

    def _degenerate(self) -> DegenerateModel:
        return DegenerateModel(
            f"{self.version} did not return one probability from 0 to 1 for each row.",
            candidate=self.candidate,
        )


class Pointer(Document, frozen=True):
    """The version that an alias names, and when it was promoted."""

    version: str
    manifest_sha256: str
    model: str
    recipe: str
    f1: float | None
    metrics: dict[str, float | None]
    threshold: float
    dataset: str
    as_of: str
    kind: Kind
    promoted_at: str
    approved_by: str | None = None


class Registry(Document, frozen=True, kw_only=True):
    """The aliases of a problem; the format of ``registry.json``, which is replaced atomically.

    Attributes
    ----------
    generation : int
        Number of changes of production; staging a challenger does not count.
    staging : Pointer or None
        The challenger that passed its gate and awaits approval or promotion.
    previous : Pointer or None
        The champion before this one: the default target of a rollback.
    """

    format: int = REGISTRY_FORMAT
    problem: str
    generation: int
    production: Pointer | None = None
    staging: Pointer | None = None
    previous: Pointer | None = None
