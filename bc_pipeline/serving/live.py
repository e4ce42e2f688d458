"""The live model: what answers now, and the watcher that puts another in its place.

A new champion is read, verified and warmed aside; then one reference changes. A request
takes the reference once and answers from it, so no answer mixes two models.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import structlog

from bc_pipeline import clock
from bc_pipeline.artifacts.evidence import Verdict
from bc_pipeline.artifacts.files import decode_record
from bc_pipeline.artifacts.manifest import Manifest, Pointer
from bc_pipeline.artifacts.predictors import Predictor, load_predictor
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import (
    MANIFEST,
    MODEL,
    SIGNATURE,
    VERDICT,
    VersionFiles,
    open_pointer,
    read_registry,
)
from bc_pipeline.errors import ArtifactCorrupt, DegenerateModel, NotReleasable, PipelineError
from bc_pipeline.schema import FeatureSchema, Labels
from bc_pipeline.serving.body import BodyReader
from bc_pipeline.settings import Settings

Source = Literal["registry", "folder"]
# A refusal may have been the machine's fault: no memory, a volume that was away.
RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class Live:
    """One verified and warmed model, with all that a request needs of it.

    Attributes
    ----------
    example : tuple of float
        A plausible record, for the documentation.
    source : {"registry", "folder"}
        Whether it is the champion or a folder named at start.
    generation : int
        Of the registry; 0 for a folder.
    """

    predictor: Predictor
    manifest: Manifest
    manifest_sha256: str
    labels: Labels
    reader: BodyReader
    example: tuple[float, ...]
    source: Source
    generation: int
    loaded_at: datetime

    @property
    def version(self) -> str:
        return self.manifest.version


@dataclass(frozen=True)
class Refusal:
    """A champion that was not taken, and why."""

    version: str | None
    code: str
    reason: str
    at: datetime


def centre(manifest: Manifest) -> tuple[float, ...]:
    """A plausible record: the centre of each feature's training range, four digits.

    The centre is geometric where it can be, because lengths, areas and their ratios then
    fit together.
    """
    values = []
    for name in manifest.feature_schema.names:
        low, high = manifest.training_range[name]
        middle = (low * high) ** 0.5 if low > 0 else (low + high) / 2
        values.append(float(f"{middle:.4g}"))
    return tuple(values)


def prepare(
    files: VersionFiles, problem: str, threads: int, *, source: Source, generation: int
) -> Live:
    """Load a version, check that it is what it says, and let it predict once.

    Raises
    ------
    StoreError
        Where bytes differ from their digests.
    ModelError
        Where it does not run, or answers something that is no probability.
    """
    manifest = files.manifest
    schema = _checked_schema(manifest, problem, files.folder)
    predictor = load_predictor(files, threads=threads)
    example = centre(manifest)
    ranges = np.array([manifest.training_range[name] for name in schema.names])
    for rows in (np.array([example]), np.vstack([ranges.T, example])):
        answered = np.asarray(predictor.positive(rows))
        if answered.shape != (len(rows),) or not np.all((answered >= 0) & (answered <= 1)):
            raise DegenerateModel(
                f"{manifest.version} does not answer with probabilities.",
                candidate=manifest.recipe.candidate,
            )
    return Live(
        predictor=predictor,
        manifest=manifest,
        manifest_sha256=files.manifest_sha256,
        labels=manifest.label_set,
        reader=BodyReader(schema),
        example=example,
        source=source,
        generation=generation,
        loaded_at=clock.now(),
    )


def _checked_schema(manifest: Manifest, problem: str, folder: Path) -> FeatureSchema:
    """The schema of a manifest, after checks that its parts are about the same thing."""
    try:
        schema = manifest.feature_schema
        fits = schema.fingerprint == manifest.schema_fingerprint
        covered = set(manifest.training_range) == set(schema.names)
        manifest.label_set.code(is_positive=True)
    except (KeyError, TypeError, ValueError):
        fits = covered = False
    wrong = ""
    if manifest.problem != problem:
        wrong = f"is for the problem {manifest.problem!r}, not {problem!r}"
    elif not fits:
        wrong = "carries a feature schema that differs from its fingerprint"
    elif not covered:
        wrong = "has training ranges of other features than its schema"
    elif not 0 <= manifest.threshold <= 1:
        wrong = "has a threshold outside 0 to 1"
    if wrong:
        raise ArtifactCorrupt(f"{manifest.version} {wrong}.", path=str(folder))
    return schema


def require_release(files: VersionFiles) -> None:
    """Whether the signed verdict in a version allows what the unsigned registry says.

    Raises
    ------
    NotReleasable
        Where the version was rejected, or comes from a backfill that was not to be live.
    ArtifactCorrupt
    """
    verdict = decode_record(files.read(VERDICT), Verdict, files.folder / VERDICT)
    manifest = files.manifest
    if verdict.challenger != manifest.version:
        reason = f"its verdict is about {verdict.challenger}"
    elif not verdict.passed:
        reason = "the gate rejected it"
    elif not manifest.lineage.live:
        reason = "it comes from a backfilled run"
    else:
        return
    raise NotReleasable(
        f"{manifest.version} may not be served: {reason}.",
        version=manifest.version,
        reasons=(reason,),
    )


class LiveModel:
    """Follows the registry of one problem.

    Attributes
    ----------
    current : Live or None
        The model that answers; None until a verified champion was found.
    refusals : int
        How many times a champion was refused since the start.
    last_refusal : Refusal or None
        Cleared when a champion is taken.
    checked_at : datetime or None
        When the registry was last looked at with success.
    """

    def __init__(self, settings: Settings) -> None:
        self.current: Live | None = None
        self.refusals = 0
        self.last_refusal: Refusal | None = None
        self.checked_at: datetime | None = None
        self._settings = settings
        self._store = Store(settings.home, settings.service_problem)
        # What was refused, and when: the same files are tried again after a while only.
        self._refused: tuple[object, ...] | None = None
        self._refused_at = 0.0

    async def watch(self) -> None:
        """Look at the registry every ``reload_seconds``, for ever."""
        while True:
            await asyncio.sleep(self._settings.reload_seconds)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Bring `current` in line with the registry; nothing that goes wrong is raised.

        One caller at a time.
        """
        pointer: Pointer | None = None
        fingerprint = self._fingerprint(None)
        try:
            registry = read_registry(self._store)
            pointer = registry.production
            if pointer is None:
                self._withdraw(registry.generation)
            elif self._serves(pointer):
                self._confirm(registry.generation)
            else:
                # Taken before the files are read: a change in between means another try.
                fingerprint = self._fingerprint(pointer)
                if fingerprint != self._refused or self._is_due():
                    self._take(pointer, registry.generation)
            self.checked_at = clock.now()
        except PipelineError as error:
            self._refuse(pointer, fingerprint, error.code, str(error))
        except Exception as error:
            # Whatever a damaged version or volume brings forth, the old model must go on.
            reason = f"{type(error).__name__} while it was loaded."
            self._refuse(pointer, fingerprint, "unreadable", reason)

    def _is_due(self) -> bool:
        return time.monotonic() - self._refused_at >= RETRY_SECONDS

    def _serves(self, pointer: Pointer) -> bool:
        live = self.current
        return live is not None and (live.version, live.manifest_sha256) == (
            pointer.version,
            pointer.manifest_sha256,
        )

    def _withdraw(self, generation: int) -> None:
        """Nothing is champion: an empty pointer is obeyed, a missing registry is not."""
        if self.current is None:
            return
        if generation == 0:
            raise ArtifactCorrupt("registry.json is gone.", path=str(self._store.registry))
        structlog.get_logger().warning("model_withdrawn", version=self.current.version)
        self.current = None

    def _confirm(self, generation: int) -> None:
        assert self.current is not None
        if self.current.generation != generation:
            self.current = replace(self.current, generation=generation)
        self._refused = self.last_refusal = None

    def _take(self, pointer: Pointer, generation: int) -> None:
        started = clock.now()
        files = open_pointer(self._store, pointer, self._settings.verify_key)
        require_release(files)
        live = prepare(
            files,
            self._settings.service_problem,
            self._settings.threads,
            source="registry",
            generation=generation,
        )
        before = self.current
        self.current = live
        self._refused = self.last_refusal = None
        structlog.get_logger().info(
            "model_live",
            version=live.version,
            generation=generation,
            before=before.version if before else None,
            seconds=round((live.loaded_at - started).total_seconds(), 3),
        )

    def _refuse(
        self, pointer: Pointer | None, fingerprint: tuple[object, ...], code: str, reason: str
    ) -> None:
        self._refused_at = time.monotonic()
        if fingerprint == self._refused:
            return
        self._refused = fingerprint
        self.refusals += 1
        version = pointer.version if pointer else None
        self.last_refusal = Refusal(
            version, code, reason.replace(str(self._settings.home), "BC_HOME"), clock.now()
        )
        structlog.get_logger().error(
            "model_refused",
            version=version,
            code=code,
            reason=reason,
            serving=self.current.version if self.current else None,
        )

    def _fingerprint(self, pointer: Pointer | None) -> tuple[object, ...]:
        """What a refusal depends on: the pointer, and the state of every file it needs."""
        if pointer is None:
            return (_state(self._store.registry),)
        folder = self._store.version(pointer.version)
        return (
            pointer.version,
            pointer.manifest_sha256,
            *(_state(folder / name) for name in (MANIFEST, SIGNATURE, MODEL, VERDICT)),
            _state(self._settings.verify_key),
        )


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
