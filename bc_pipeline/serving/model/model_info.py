"""Description of the model that answers, from its signed manifest and the files beside it.

Every file is read once per version and checked against the manifest; some may be missing.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.evaluated_rows import EvaluatedRows, read_evaluated_rows
from bc_pipeline.artifacts.importance import Importance
from bc_pipeline.artifacts.manifest import Lineage, Manifest, Pointer, Registry
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_bundle import CARD, IMPORTANCE, VERDICT
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.verdict import Kind, Verdict
from bc_pipeline.artifacts.versions import open_stored
from bc_pipeline.errors import ArtifactCorrupt, StoreError
from bc_pipeline.serving.model.loaded_model import LoadedModel, ModelSource
from bc_pipeline.settings import Settings

NOTICE = "Decision support for research; not a medical device."
ALIASES = ("production", "previous", "staging")


class Range(msgspec.Struct, frozen=True):
    """The lowest and the highest value."""

    minimum: float
    maximum: float


class ModelFeature(msgspec.Struct, frozen=True):
    """One number that the model needs.

    Attributes
    ----------
    other_names : list of str
        Taken as well; case, spaces, dots and underscores do not matter.
    unit : str
        Of measurement; "1" for a number without dimension.
    physical_range : Range
        A value outside is refused as a mistake.
    training_range : Range
        Of the rows that the model was trained on; a value outside gives a warning.
    """

    name: str
    other_names: tuple[str, ...]
    unit: str
    physical_range: Range
    training_range: Range


class ModelLabel(msgspec.Struct, frozen=True):
    """One of the two labels.

    Attributes
    ----------
    code : int
        scikit-learn's, as 'prediction' carries it.
    positive : bool
        Whether threshold and metrics are about this label.
    """

    name: str
    code: int
    positive: bool


class ModelThreshold(msgspec.Struct, frozen=True):
    """The decision threshold.

    Attributes
    ----------
    meaning : str
        The rule in words.
    """

    value: float
    meaning: str


class ModelVerdict(msgspec.Struct, frozen=True):
    """Decision of the promotion gate.

    Attributes
    ----------
    kind : str
        "first" model, "refresh" of the same recipe, or "switch" to another.
    better : bool
        Whether the evidence shows that it is better than the champion before it.
    checks : int
        How many were made.
    failed : list of str
        Names of the checks that did not pass, those that only advise among them.
    approved_by : str or None
        Who approved the release, if approval was required.
    promoted_at : str or None
        When it became the production version.
    """

    kind: Kind
    passed: bool
    better: bool
    checks: int
    failed: tuple[str, ...]
    approved_by: str | None
    promoted_at: str | None


class ModelAnswer(msgspec.Struct, frozen=True):
    """The model that answers now.

    Attributes
    ----------
    generation : int
        How often the production version was changed; 0 where a folder is served.
    source : str
        Whether the registry names it or a folder was given at start.
    title : str
        The kind of model, in words.
    evaluation : list of EvaluatedRows
        Figures by the rows that they come from: nested cross-validation, which is the fair one,
        then cross-validation and the holdout. Empty where a folder is served.
    metrics : dict of str to float or None
        On the holdout, about the positive label; null where one could not be computed.
    importance : Importance or None
        How much worse the Brier score gets when one feature is shuffled.
    card : str or None
        The model card, as Markdown.
    lineage : Lineage
        What it was made from.
    libraries : dict of str to str
        What it was made with.
    """

    problem: str
    version: str
    manifest_sha256: str
    generation: int
    source: ModelSource
    candidate: str
    title: str
    notice: str
    labels: tuple[ModelLabel, ...]
    threshold: ModelThreshold
    features: tuple[ModelFeature, ...]
    evaluation: tuple[EvaluatedRows, ...]
    metrics: dict[str, float | None]
    importance: Importance | None
    verdict: ModelVerdict | None
    lineage: Lineage
    libraries: dict[str, str]
    card: str | None


def read_model_info(settings: Settings, model: LoadedModel) -> ModelAnswer:
    """Describe the model that answers; its files are read once per release.

    Raises
    ------
    StoreError
        Where its files have been damaged since it was loaded.
    """
    evaluation: tuple[EvaluatedRows, ...] = ()
    importance, verdict, card = None, None, None
    if model.source == "registry":
        evaluation, importance, verdict, card = _read_files(
            Store.of(settings, settings.service_problem),
            settings.verify_key,
            model.version,
            model.manifest_sha256,
            model.generation,
        )
    return build_model_info(model, importance, verdict, card, evaluation)


def read_treat_all(settings: Settings, model: LoadedModel) -> float | None:
    """Net benefit of calling every holdout row; None where no sound file of the model says so."""
    try:
        evaluation = read_model_info(settings, model).evaluation
    except StoreError:
        return None
    return next((part.treat_all for part in evaluation if part.rows == "holdout"), None)


def build_model_info(
    model: LoadedModel,
    importance: Importance | None = None,
    verdict: ModelVerdict | None = None,
    card: str | None = None,
    evaluation: tuple[EvaluatedRows, ...] = (),
) -> ModelAnswer:
    """Combine the manifest with the contents of the other files."""
    manifest = model.manifest
    positive, negative = model.labels.positive, model.labels.negative
    return ModelAnswer(
        problem=manifest.problem,
        version=manifest.version,
        manifest_sha256=model.manifest_sha256,
        generation=model.generation,
        source=model.source,
        candidate=manifest.recipe.candidate,
        title=manifest.recipe.title,
        notice=NOTICE,
        labels=(
            ModelLabel(positive.name, positive.code, positive=True),
            ModelLabel(negative.name, negative.code, positive=False),
        ),
        threshold=ModelThreshold(
            manifest.threshold,
            f"The call is {positive.name} exactly where the probability of {positive.name} "
            "is above this value.",
        ),
        features=model_features(manifest),
        evaluation=evaluation,
        metrics=manifest.metrics,
        importance=importance,
        verdict=verdict,
        lineage=manifest.lineage,
        libraries=manifest.libraries,
        card=card,
    )


def model_features(manifest: Manifest) -> tuple[ModelFeature, ...]:
    return tuple(
        ModelFeature(
            feature.name,
            tuple(dict.fromkeys(feature.aliases)),
            feature.unit,
            Range(feature.minimum, feature.maximum),
            Range(*manifest.training_range[feature.name]),
        )
        for feature in manifest.feature_schema.features
    )


def pointers_by_alias(registry: Registry) -> dict[str, Pointer]:
    """The pointers that are set."""
    pointers: dict[str, Pointer | None] = {name: getattr(registry, name) for name in ALIASES}
    return {name: pointer for name, pointer in pointers.items() if pointer is not None}


@lru_cache(maxsize=2)
def _read_files(
    store: Store, verify_key: Path, version: str, manifest_sha256: str, generation: int
) -> tuple[tuple[EvaluatedRows, ...], Importance | None, ModelVerdict | None, str | None]:
    """Figures, importance, verdict and card; `generation` is part of the cache's key only."""
    files = open_stored(store, version, verify_key)
    if files.manifest_sha256 != manifest_sha256:
        raise ArtifactCorrupt(
            f"The manifest of {version} is no longer the one that answers.",
            path=str(files.folder),
        )
    listed = files.manifest.files
    pointers = pointers_by_alias(read_registry(store)).values()
    pointer = next((item for item in pointers if item.manifest_sha256 == manifest_sha256), None)
    return (
        read_evaluated_rows(files),
        files.read_document(IMPORTANCE, Importance) if IMPORTANCE in listed else None,
        _summarize(files.read_document(VERDICT, Verdict), pointer) if VERDICT in listed else None,
        files.read(CARD).decode() if CARD in listed else None,
    )


def _summarize(verdict: Verdict, pointer: Pointer | None) -> ModelVerdict:
    return ModelVerdict(
        kind=verdict.kind,
        passed=verdict.passed,
        better=verdict.better,
        checks=len(verdict.checks),
        failed=tuple(check.name for check in verdict.checks if not check.passed),
        approved_by=pointer.approved_by if pointer else None,
        promoted_at=pointer.promoted_at if pointer else None,
    )
