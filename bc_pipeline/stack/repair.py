"""Repair of a registry, and of what the service remembers of it."""

from __future__ import annotations

from typing import Any

import msgspec

from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import require_not_newer, require_volume
from bc_pipeline.errors import ArtifactCorrupt, SignatureInvalid
from bc_pipeline.promotion.repair import repair_registry
from bc_pipeline.serving.model.replay_guard import FILE, read_last_served
from bc_pipeline.settings import Settings


def repair(settings: Settings, problem: str) -> dict[str, Any]:
    """Make a damaged registry again; remove a remembered registry whose signature is not valid.

    A volume of an earlier format may be repaired too: its upgrade needs a registry that agrees
    with the audit log.

    Raises
    ------
    ConfigError, StoreUnfit
    AuditBroken, VersionNotFound, SignatureInvalid, ArtifactCorrupt, NotReleasable
    """
    require_volume(settings.home)
    require_not_newer(settings.home)
    store = Store.of(settings, problem)
    result = repair_registry(store)
    removed = None
    if problem == settings.service_problem:
        path = settings.records / FILE
        try:
            read_last_served(store, path)
        except (ArtifactCorrupt, SignatureInvalid):
            path.unlink()
            removed = str(path)
    return {
        "repaired": result.changed,
        "removed": removed,
        "registry": msgspec.to_builtins(result.registry),
    }
