"""The anchor: which version it is, and setting another one."""

from __future__ import annotations

from dataclasses import asdict

from bc_pipeline.errors import NoChampion, StoreError
from bc_pipeline.promotion import anchor as anchors
from bc_pipeline.promotion.anchor import read_anchor
from bc_pipeline.settings import Settings
from bc_pipeline.workspace import Result, open_workspace


def anchor(settings: Settings, problem: str) -> Result:
    """The anchor, and whether its files can be opened.

    Raises
    ------
    NoChampion
        Where nothing was promoted yet.
    AuditBroken
    """
    store = open_workspace(settings, problem).store
    current = read_anchor(store)
    if current is None:
        raise NoChampion(
            f"{problem} has no anchor: no model was promoted yet.",
            "The first champion becomes the anchor.",
        )
    try:
        current.open(store)
        state = "can be opened"
    except StoreError as error:
        state = str(error)
    return asdict(current) | {"files": state}


def set_anchor(
    settings: Settings, problem: str, version: str, *, actor: str, reason: str
) -> Result:
    """Make a version that is or was in production the anchor, with a line in the audit log.

    Raises
    ------
    ConfigError
        Where there is no reason.
    VersionNotFound, SignatureInvalid, ArtifactCorrupt, AuditBroken, NotReleasable
    """
    store = open_workspace(settings, problem).store
    made, changed = anchors.set_anchor(store, version, actor=actor, reason=reason)
    return asdict(made) | {"changed": changed}
