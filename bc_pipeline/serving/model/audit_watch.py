"""Follows the audit log: remembers its tip, and which signing keys are distrusted.

The tip is in the service's own folder, which nobody who can only write the volume changes. So a log
that was cut off or written anew, even with the signing key, is found; the loaded model goes on
answering, and ``/health`` and ``bc-pipeline doctor`` say so.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.audit_tip import AuditTip
from bc_pipeline.artifacts.files import file_state, write_document
from bc_pipeline.artifacts.remembered_tip import FILE, read_remembered_tip, require_remembered
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import PipelineError
from bc_pipeline.serving.api_model import ApiModel


class AuditFault(ApiModel):
    """The defect of the audit log."""

    code: str
    reason: str


class AuditWatch:
    """The state of a problem's audit log, as far as the service may read it.

    Parameters
    ----------
    folder : Path
        The service's own, writable folder. While it cannot be written, the worker relies on its
        memory.

    Attributes
    ----------
    fault : AuditFault or None
    distrusted_keys : tuple of str
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.fault: AuditFault | None = None
        self.distrusted_keys: tuple[str, ...] = ()
        self._store = store
        self._path = folder / FILE
        self._seen: object = None

    def refresh(self) -> None:
        """Look at the log again, where it or a file that decides about it has changed."""
        files = (self._store.audit, self._store.verify_key, self._path)
        state = tuple(file_state(file) for file in files)
        if state == self._seen:
            return
        self._seen = state
        try:
            tip = require_remembered(self._store, self._path)
            self.distrusted_keys = tuple(read_audit_log(self._store).distrusted_keys)
            self.fault = None
            if tip is not None and tip != read_remembered_tip(self._path):
                self._remember(tip)
        except PipelineError as error:
            reason = str(error).replace(str(self._store.home), "BC_HOME")
            self.fault = AuditFault(code=error.code, reason=reason)
            structlog.get_logger().error("audit_log_refused", code=error.code, reason=reason)
        except OSError:
            # The service may have no permission to read the log.
            self.fault = None

    def _remember(self, tip: AuditTip) -> None:
        try:
            write_document(self._path, tip)
        except OSError as error:
            structlog.get_logger().warning("audit_tip_not_stored", reason=type(error).__name__)
