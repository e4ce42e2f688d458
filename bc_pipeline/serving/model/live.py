"""The live model: what answers now, and the watcher that puts another in its place.

A new champion is read, verified and warmed aside; then one reference changes. A request
takes the reference once and answers from it, so no answer mixes two models.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import structlog

from bc_pipeline import clock
from bc_pipeline.artifacts.manifest import Manifest, Pointer, Registry
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
from bc_pipeline.errors import ArtifactCorrupt, DegenerateModel, PipelineError
from bc_pipeline.schema import Labels
from bc_pipeline.serving.bodies.body import BodyReader
from bc_pipeline.serving.bodies.quick import Bounds
from bc_pipeline.serving.model.claims import checked_schema, require_release
from bc_pipeline.serving.model.generation import Generations, require_not_older
from bc_pipeline.serving.turns import Turns
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    from bc_pipeline.serving.model.explain import Explainer

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
    trained : Bounds
        The range of each feature among the train rows.
    pack : callable
        Takes the values of a row and gives them as the predictor and the log take them.
    headers : tuple of (bytes, bytes)
        What every answer of this model carries in its header.
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
    trained: Bounds
    pack: Callable[..., bytes]
    headers: tuple[tuple[bytes, bytes], ...]

    def unusual(self, values: Sequence[float]) -> list[str]:
        """Features whose value lies outside the range of the train rows."""
        names = self.manifest.feature_schema.names
        return [names[position] for position in self.trained.broken(values)]

    @property
    def version(self) -> str:
        return self.manifest.version

    @cached_property
    def explainer(self) -> Explainer:
        """Built when it is first asked for: most workers never explain."""
        from bc_pipeline.serving.model.explain import Explainer

        return Explainer.of(self)


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
        Where bytes differ from their digests, or do not decrypt.
    SchemaMismatch
        Where its schema contradicts itself.
    ModelError
        Where it does not run, or answers something that is no probability.
    """
    manifest = files.manifest
    schema = checked_schema(manifest, problem, files.folder)
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
        trained=Bounds(ranges[:, 0].tolist(), ranges[:, 1].tolist()),
        pack=struct.Struct(f"<{len(schema.names)}d").pack,
        headers=(
            (b"x-model-version", manifest.version.encode()),
            (b"x-manifest-sha256", files.manifest_sha256.encode()),
        ),
    )


class LiveModel:
    """Follows the registry of one problem.

    Attributes
    ----------
    current : Live or None
        The model that answers; None until a verified champion was found.
    refusals : int
        How many times a champion was refused since the start.
    refusals_by_code : dict of str to int
        The same by reason: the code of the error, or ``unreadable`` for what nobody foresaw.
    last_refusal : Refusal or None
        Cleared when a champion is taken.
    checked_at : datetime or None
        When the registry was last looked at with success.
    """

    def __init__(self, settings: Settings) -> None:
        self.current: Live | None = None
        self.refusals = 0
        self.refusals_by_code: dict[str, int] = {}
        self.last_refusal: Refusal | None = None
        self.checked_at: datetime | None = None
        self._settings = settings
        self._store = Store(settings.home, settings.service_problem)
        self._generations = Generations(settings.records)
        # What was refused, and when: the same files are tried again after a while only.
        self._refused: tuple[object, ...] | None = None
        self._refused_at = 0.0

    async def watch(self) -> None:
        """Look at the registry every ``reload_seconds``, for ever."""
        turns = Turns("model")
        while True:
            await asyncio.sleep(self._settings.reload_seconds)
            with turns.turn():
                await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Bring `current` in line with the registry; nothing that goes wrong is raised.

        One caller at a time.
        """
        pointer: Pointer | None = None
        fingerprint = self._fingerprint(None)
        try:
            # Before the registry: what another worker serves meanwhile is no reason to
            # call the registry old.
            served = self._generations.read()
            registry = read_registry(self._store)
            pointer = registry.production
            if registry.generation == 0 and served and not self._store.registry.exists():
                raise ArtifactCorrupt("registry.json is gone.", path=str(self._store.registry))
            require_not_older(registry, served, self._generations.path)
            if pointer is None:
                self._withdraw(registry)
            elif self._serves(pointer):
                self._confirm(registry)
            else:
                # Taken before the files are read: a change in between means another try.
                fingerprint = self._fingerprint(pointer)
                if fingerprint != self._refused or self._is_due():
                    self._take(pointer, registry)
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

    def _withdraw(self, registry: Registry) -> None:
        """Nothing is champion: an empty pointer is obeyed."""
        self._generations.keep(registry)
        self._refused = self.last_refusal = None
        if self.current is not None:
            structlog.get_logger().warning("model_withdrawn", version=self.current.version)
            self.current = None

    def _confirm(self, registry: Registry) -> None:
        assert self.current is not None
        self._generations.keep(registry)
        if self.current.generation != registry.generation:
            self.current = replace(self.current, generation=registry.generation)
        self._refused = self.last_refusal = None

    def _take(self, pointer: Pointer, registry: Registry) -> None:
        started, settings = clock.now(), self._settings
        files = open_pointer(self._store, pointer, settings.verify_key, settings.artifact_cipher())
        require_release(files)
        live = prepare(
            files,
            settings.service_problem,
            settings.threads,
            source="registry",
            generation=registry.generation,
        )
        self._generations.keep(registry)
        before = self.current
        self.current = live
        self._refused = self.last_refusal = None
        structlog.get_logger().info(
            "model_live",
            version=live.version,
            generation=live.generation,
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
        self.refusals_by_code[code] = self.refusals_by_code.get(code, 0) + 1
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
            *(
                _state(key) if key else None
                for key in (self._settings.verify_key, self._settings.artifact_key_file)
            ),
        )


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
