"""What is known of the live model, from its signed manifest and the files beside it.

Every file is read once per version and checked against the manifest; a version need not
have them all.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.evidence import Kind, Verdict
from bc_pipeline.artifacts.files import decode_record
from bc_pipeline.artifacts.manifest import Lineage, Manifest, Pointer, Registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import (
    CARD,
    VERDICT,
    VersionFiles,
    open_stored,
    read_registry,
)
from bc_pipeline.errors import ArtifactCorrupt
from bc_pipeline.evaluation.importance import IMPORTANCE, Importance
from bc_pipeline.serving.model.live import Live, Source
from bc_pipeline.serving.pages.documentation import NOTICE
from bc_pipeline.settings import Settings

# Production now and before, and what waits.
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
    """Where the call turns.

    Attributes
    ----------
    meaning : str
        The rule in words.
    """

    value: float
    meaning: str


class ModelVerdict(msgspec.Struct, frozen=True):
    """What the promotion gate decided.

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
        Who approved the release, where a person was asked.
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
    source: Source
    candidate: str
    title: str
    notice: str
    labels: tuple[ModelLabel, ...]
    threshold: ModelThreshold
    features: tuple[ModelFeature, ...]
    metrics: dict[str, float | None]
    importance: Importance | None
    verdict: ModelVerdict | None
    lineage: Lineage
    libraries: dict[str, str]
    card: str | None


def model_facts(settings: Settings, live: Live) -> ModelAnswer:
    """All that is known of the live model; the files are read once per release.

    Raises
    ------
    StoreError
        Where the files of the version that answers are damaged by now.
    """
    importance, verdict, card = None, None, None
    if live.source == "registry":
        importance, verdict, card = _from_files(
            Store(settings.home, settings.service_problem),
            settings.verify_key,
            live.version,
            live.manifest_sha256,
            live.generation,
        )
    return described(live, importance, verdict, card)


def described(
    live: Live,
    importance: Importance | None = None,
    verdict: ModelVerdict | None = None,
    card: str | None = None,
) -> ModelAnswer:
    """What the manifest tells, with what the other files do."""
    manifest = live.manifest
    positive, negative = live.labels.positive, live.labels.negative
    return ModelAnswer(
        problem=manifest.problem,
        version=manifest.version,
        manifest_sha256=live.manifest_sha256,
        generation=live.generation,
        source=live.source,
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
        features=features_of(manifest),
        metrics=manifest.metrics,
        importance=importance,
        verdict=verdict,
        lineage=manifest.lineage,
        libraries=manifest.libraries,
        card=card,
    )


def features_of(manifest: Manifest) -> tuple[ModelFeature, ...]:
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


def pointers(registry: Registry) -> dict[str, Pointer]:
    """What the aliases name, by alias."""
    given: dict[str, Pointer | None] = {name: getattr(registry, name) for name in ALIASES}
    return {name: pointer for name, pointer in given.items() if pointer is not None}


def read_verdict(files: VersionFiles) -> Verdict:
    """The signed verdict of a version.

    Raises
    ------
    ArtifactCorrupt
    """
    return decode_record(files.read(VERDICT), Verdict, files.folder / VERDICT)


@lru_cache(maxsize=2)
def _from_files(
    store: Store, verify_key: Path, version: str, manifest_sha256: str, generation: int
) -> tuple[Importance | None, ModelVerdict | None, str | None]:
    """Importance, verdict and card; `generation` makes a new release a new question."""
    files = open_stored(store, version, verify_key)
    if files.manifest_sha256 != manifest_sha256:
        raise ArtifactCorrupt(
            f"The manifest of {version} is no longer the one that answers.",
            path=str(files.folder),
        )
    listed = files.manifest.files
    named = pointers(read_registry(store)).values()
    pointer = next((found for found in named if found.manifest_sha256 == manifest_sha256), None)
    return (
        decode_record(files.read(IMPORTANCE), Importance, files.folder / IMPORTANCE)
        if IMPORTANCE in listed
        else None,
        _summary(read_verdict(files), pointer) if VERDICT in listed else None,
        files.read(CARD).decode() if CARD in listed else None,
    )


def _summary(verdict: Verdict, pointer: Pointer | None) -> ModelVerdict:
    return ModelVerdict(
        kind=verdict.kind,
        passed=verdict.passed,
        better=verdict.better,
        checks=len(verdict.checks),
        failed=tuple(check.name for check in verdict.checks if not check.passed),
        approved_by=pointer.approved_by if pointer else None,
        promoted_at=pointer.promoted_at if pointer else None,
    )
