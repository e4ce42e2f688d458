"""The tip of the audit log that the prediction service remembers in its own folder."""

from __future__ import annotations

from pathlib import Path

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.audit_tip import AuditTip, decode_tip
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import AuditBroken

FILE = "audit_tip.json"


def read_remembered_tip(path: Path) -> AuditTip | None:
    """The tip that the service remembers; None where there is no file.

    Raises
    ------
    ArtifactCorrupt
    """
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return decode_tip(data, path.name)


def require_remembered(store: Store, path: Path) -> AuditTip | None:
    """Check that the audit log still has the line of the tip that the service remembers.

    Returns
    -------
    AuditTip or None
        The tip of now; None without lines.

    Raises
    ------
    AuditBroken, ArtifactCorrupt
    """
    # Read before the log: otherwise a line that another worker remembers in between is missing.
    remembered = read_remembered_tip(path)
    log = read_audit_log(store)
    if remembered is not None:
        try:
            log.require_tip(remembered)
        except AuditBroken as error:
            raise AuditBroken(
                error.message,
                f"Restore the log from a backup. If it was replaced on purpose, delete {path}.",
                line=error.line,
            ) from None
    return log.tip
