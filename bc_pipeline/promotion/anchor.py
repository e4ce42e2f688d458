"""The anchor: the fixed version that bounds what a chain of refreshes may lose together.

Each challenger meets its predecessor, so small losses that no single comparison can prove add up.
Therefore each is compared with the anchor too, by a bound on the loss since then. The anchor is the
first champion until a person sets another one; the line in the audit log that says so is its only
record.
"""

from __future__ import annotations

from dataclasses import dataclass

from bc_pipeline.artifacts.audit_log import AuditLine, read_audit_log
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import open_stored, open_verified
from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import ConfigError, NotReleasable
from bc_pipeline.promotion import audit
from bc_pipeline.promotion.eligibility import releases_by_version
from bc_pipeline.promotion.transition import settled_registry


@dataclass(frozen=True)
class Anchor:
    """The version that is the anchor, and why.

    Attributes
    ----------
    manifest_sha256 : str
        Of the version when it was promoted or set.
    since : str
        ISO 8601, UTC.
    actor : str
        Who set it, or promoted the first champion.
    reason : str or None
        None for the first champion, which nobody set.
    """

    version: str
    manifest_sha256: str
    since: str
    actor: str
    reason: str | None

    def open(self, store: Store, cipher: Cipher | None = None) -> VersionFiles:
        """The anchor's files, all of them verified.

        Raises
        ------
        VersionNotFound, SignatureInvalid, ArtifactCorrupt
        """
        files = open_stored(store, self.version, store.verify_key, cipher)
        files.verify_all()
        files.require_manifest(self.manifest_sha256)
        return files


def read_anchor(store: Store) -> Anchor | None:
    """The anchor of a problem; None where nothing was promoted yet.

    Raises
    ------
    AuditBroken
    """
    return find_anchor(read_audit_log(store).trusted)


def find_anchor(lines: list[AuditLine]) -> Anchor | None:
    """The anchor by the trusted lines of an audit log: the last one set, or the first champion."""
    for line in reversed(lines):
        if line.event == "anchor":
            return _anchor(line, line.details["reason"])
    for line in lines:
        if line.event == "promotion":
            return _anchor(line, None)
    return None


def set_anchor(store: Store, version: str, *, actor: str, reason: str) -> tuple[Anchor, bool]:
    """Make a version that was in production the anchor; returns it and whether it is another one.

    The line in the audit log is the approval: it names who accepts what was lost until then.

    Raises
    ------
    ConfigError
        Where there is no reason.
    VersionNotFound, SignatureInvalid, ArtifactCorrupt, AuditBroken
    NotReleasable
        Where the version was never in production.
    """
    if not reason.strip():
        raise ConfigError(
            "An anchor needs a reason.", "Say why, for the audit log.", setting="reason"
        )
    files = open_verified(store, version, store.verify_key)
    with settled_registry(store) as (registry, lines, _):
        released = releases_by_version(lines)
        if version not in released:
            raise NotReleasable(
                f"{version} was never in production, so it cannot be the anchor.",
                "Choose one of: " + (", ".join(sorted(released)) or "none") + ".",
                version=version,
                reasons=("it was never in production",),
            )
        before = find_anchor(lines)
        if before is not None and before.version == version:
            return before, False
        line = audit.append(
            store,
            "anchor",
            version=version,
            generation=registry.generation,
            actor=actor,
            details={
                "reason": reason.strip(),
                "replaces": before.version if before else None,
                "manifest_sha256": files.manifest_sha256,
            },
        )
    return _anchor(line, line.details["reason"]), True


def _anchor(line: AuditLine, reason: str | None) -> Anchor:
    return Anchor(line.version, line.details["manifest_sha256"], line.at, line.actor, reason)
