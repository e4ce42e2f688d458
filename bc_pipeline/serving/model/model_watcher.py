"""Keeps the model that answers in line with the registry.

A new champion is read, verified and warmed up beside the current model; then one reference
changes. A request reads the reference once, so no answer mixes two models.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime

import structlog

from bc_pipeline import clock
from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.files import file_state
from bc_pipeline.artifacts.manifest import Pointer, Registry
from bc_pipeline.artifacts.registry import SignedRegistry, read_signed_registry
from bc_pipeline.artifacts.release_history import require_released
from bc_pipeline.artifacts.signed_bundle import COEFFICIENTS, MANIFEST, MODEL, SIGNATURE, VERDICT
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import open_pointer
from bc_pipeline.errors import ArtifactCorrupt, PipelineError
from bc_pipeline.serving.api_model import ApiModel
from bc_pipeline.serving.model.audit_watch import AuditWatch
from bc_pipeline.serving.model.loaded_model import LoadedModel, load_model
from bc_pipeline.serving.model.replay_guard import ReplayGuard, require_not_replayed
from bc_pipeline.serving.model.version_checks import require_releasable
from bc_pipeline.settings import Settings

_LOADED_FILES = (MANIFEST, SIGNATURE, MODEL, COEFFICIENTS, VERDICT)
# A refusal may have a passing cause: no memory, or a volume that was unavailable.
RETRY_SECONDS = 30.0

Fingerprint = tuple[object, ...]


class ModelRefusal(ApiModel):
    """A version that was not loaded, and why."""

    version: str | None
    code: str
    reason: str
    at: str


class ModelWatcher:
    """Follows the registry of one problem.

    Parameters
    ----------
    pinned : LoadedModel or None
        A model that answers whatever the registry says, which is not read then.

    Attributes
    ----------
    current : LoadedModel or None
        The model that answers; None until a champion was verified.
    refusals_by_code : dict of str to int
        How many times a champion was refused since the start, by error code; ``unreadable``
        counts unexpected exceptions.
    last_refusal : ModelRefusal or None
        Reset once a champion is loaded.
    checked_at : datetime or None
        When the registry was last read successfully.
    audit : AuditWatch
        The state of the audit log.
    """

    def __init__(self, settings: Settings, pinned: LoadedModel | None = None) -> None:
        self.current = pinned
        self.refusals_by_code: dict[str, int] = {}
        self.last_refusal: ModelRefusal | None = None
        self.checked_at: datetime | None = None
        self._is_pinned = pinned is not None
        self._settings = settings
        self._store = Store.of(settings, settings.service_problem)
        self._replay_guard = ReplayGuard(self._store, settings.records)
        self.audit = AuditWatch(self._store, settings.records)
        # The refused files and the time: the same files are tried again only after a while.
        self._refused: Fingerprint | None = None
        self._refused_at = 0.0

    @property
    def refusals(self) -> int:
        """How many times a champion was refused since the start."""
        return sum(self.refusals_by_code.values())

    def refresh(self) -> None:
        """Bring `current` in line with the registry; errors become refusals.

        Not to be called from two threads at once.
        """
        if self._is_pinned:
            return
        self.audit.refresh()
        pointer: Pointer | None = None
        fingerprint = self._fingerprint(None)
        try:
            # Read before the registry: otherwise a generation that another worker records
            # in between would make this registry look old.
            last_served = self._replay_guard.read()
            signed = read_signed_registry(self._store)
            registry, pointer = signed.registry, signed.registry.production
            if registry.generation == 0 and last_served and not self._store.registry.exists():
                raise ArtifactCorrupt("registry.json is gone.", path=str(self._store.registry))
            require_not_replayed(registry, last_served, self._replay_guard.path)
            if last_served is None or registry.generation > last_served.generation:
                self._require_released(registry)
            if pointer is None:
                self._serve(None, signed)
            elif self._is_current(pointer):
                self._serve(self.current, signed)
            else:
                # Computed before the files are read: a change in between leads to another try.
                fingerprint = self._fingerprint(pointer)
                retry_is_due = time.monotonic() - self._refused_at >= RETRY_SECONDS
                if fingerprint != self._refused or retry_is_due:
                    self._load(pointer, signed)
            self.checked_at = clock.now()
        except PipelineError as error:
            self._refuse(pointer, fingerprint, error.code, str(error))
        except Exception as error:
            # Whatever a damaged version or volume raises, the old model must go on answering.
            reason = f"{type(error).__name__} while it was loaded."
            self._refuse(pointer, fingerprint, "unreadable", reason)

    def _is_current(self, pointer: Pointer) -> bool:
        model = self.current
        return model is not None and (model.version, model.manifest_sha256) == (
            pointer.version,
            pointer.manifest_sha256,
        )

    def _require_released(self, registry: Registry) -> None:
        """Compare a generation that was not served before with the audit log, if it is there.

        Raises
        ------
        AuditBroken, GenerationReplayed
        """
        try:
            lines = read_audit_log(self._store).lines
        except OSError:
            # The service may have no permission to read the audit log.
            return
        require_released(registry, lines)

    def _serve(self, model: LoadedModel | None, signed: SignedRegistry) -> None:
        """Answer with a model, or with none, once the generation is recorded."""
        registry = signed.registry
        self._replay_guard.record(signed)
        self._refused = self.last_refusal = None
        if model is None and self.current is not None:
            structlog.get_logger().warning("model_withdrawn", version=self.current.version)
        if model is not None and model.generation != registry.generation:
            model = replace(model, generation=registry.generation)
        self.current = model

    def _load(self, pointer: Pointer, signed: SignedRegistry) -> None:
        started, settings = clock.now(), self._settings
        files = open_pointer(self._store, pointer, settings.verify_key, settings.artifact_cipher())
        require_releasable(files)
        model = load_model(
            files,
            settings.service_problem,
            settings.threads,
            source="registry",
            generation=signed.registry.generation,
        )
        previous = self.current
        self._serve(model, signed)
        structlog.get_logger().info(
            "model_live",
            version=model.version,
            generation=model.generation,
            before=previous.version if previous else None,
            seconds=round((model.loaded_at - started).total_seconds(), 3),
        )

    def _refuse(
        self, pointer: Pointer | None, fingerprint: Fingerprint, code: str, reason: str
    ) -> None:
        """Count and log a refusal, once for the same state of the files."""
        self._refused_at = time.monotonic()
        if fingerprint == self._refused:
            return
        self._refused = fingerprint
        self.refusals_by_code[code] = self.refusals_by_code.get(code, 0) + 1
        version = pointer.version if pointer else None
        self.last_refusal = ModelRefusal(
            version=version,
            code=code,
            reason=reason.replace(str(self._settings.home), "BC_HOME"),
            at=clock.format_time(clock.now()),
        )
        structlog.get_logger().error(
            "model_refused",
            version=version,
            code=code,
            reason=reason,
            serving=self.current.version if self.current else None,
        )

    def _fingerprint(self, pointer: Pointer | None) -> Fingerprint:
        """The pointer and the state of every file that loading depends on."""
        if pointer is None:
            return (file_state(self._store.registry),)
        folder = self._store.version(pointer.version)
        keys = (self._settings.verify_key, self._settings.artifact_key_file)
        return (
            pointer.version,
            pointer.manifest_sha256,
            *(file_state(folder / name) for name in _LOADED_FILES),
            *(file_state(key) if key else None for key in keys),
        )
