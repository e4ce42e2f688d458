"""Formats of ``manifest.json`` and ``registry.json``."""

from __future__ import annotations

from typing import Any

from bc_pipeline.artifacts.evidence import Kind, Record
from bc_pipeline.schema import FeatureSchema, Labels

# Format 2 says which DAG code ran; what format 1 has is a part of it.
MANIFEST_FORMAT = 2
REGISTRY_FORMAT = 1


class FileEntry(Record, frozen=True):
    """Digest and size of one file of a version."""

    sha256: str
    size: int


class Recipe(Record, frozen=True):
    """What was fitted."""

    candidate: str
    title: str
    recipe: str
    params: dict[str, Any]
    seed: int


class DagCode(Record, frozen=True):
    """Which code of the DAG ran, where Airflow ran it.

    Attributes
    ----------
    version_id : str
        Airflow's id of the DAG's version: its page and its REST API tell the rest.
    bundle : str or None
        Name of the bundle that the DAG's file was taken from; None in a trial without one.
    bundle_version : str or None
        The commit, of a Git bundle; None for a folder, which keeps no versions.
    sha256 : str
        Over the DAG's file and the code on Airflow's side (`bc_airflow`). The rest of the
        code has a version of its own.
    """

    dag_id: str
    version_id: str
    bundle: str | None
    bundle_version: str | None
    sha256: str


class Lineage(Record, frozen=True):
    """Where a version comes from.

    Attributes
    ----------
    as_of : str
        ISO 8601, UTC: rows that had arrived by then were used.
    live : bool
        False for a backfilled run: its verdict is kept, the pointer does not move.
    validation : str
        Id of the expectation suite's result for the dataset.
    dag : DagCode or None
        None where no DAG ran, or the release that made the version did not say.
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


class Manifest(Record, frozen=True, kw_only=True):
    """Everything a reader needs to check and run a model without knowing its Problem.

    Attributes
    ----------
    threshold : float
        The call is positive where the probability is above it.
    training_range : dict of str to (float, float)
        Smallest and largest value of each feature among the train rows.
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

    @property
    def feature_schema(self) -> FeatureSchema:
        return FeatureSchema.from_dict(self.schema)

    @property
    def label_set(self) -> Labels:
        return Labels.from_dict(self.labels)


class Pointer(Record, frozen=True):
    """An alias: which version it names, and since when."""

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


class Registry(Record, frozen=True, kw_only=True):
    """What is live; replaced atomically.

    Attributes
    ----------
    generation : int
        How often production was changed; staging a challenger does not count.
    staging : Pointer or None
        The challenger that passed its gate and waits for approval or promotion.
    previous : Pointer or None
        The champion before this one: where a rollback without a version goes.
    """

    format: int = REGISTRY_FORMAT
    problem: str
    generation: int
    production: Pointer | None = None
    staging: Pointer | None = None
    previous: Pointer | None = None
