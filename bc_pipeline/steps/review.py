"""What a reviewer asks: which verdicts there are, and whether the audit log holds."""

from __future__ import annotations

from typing import Any

import msgspec

from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.evidence import Verdict
from bc_pipeline.artifacts.files import decode_record
from bc_pipeline.artifacts.versions import VersionFiles
from bc_pipeline.errors import NoChampion
from bc_pipeline.steps.run import Result, enter


def verdict(problem: str, version: str | None) -> Result:
    """The verdict of a version, or of the champion, with its checks and its lineage."""
    room = enter(problem)
    if version is None:
        production = versions.read_registry(room.store).production
        if production is None:
            raise NoChampion(f"No model of {problem} was promoted yet.", "Name a version.")
        version = production.version
    files = versions.open_stored(room.store, version, room.settings.verify_key)
    return _verdict(files)


def audit(problem: str) -> Result:
    """Check the hash chain of the audit log.

    Raises
    ------
    AuditBroken
    """
    from bc_pipeline.promotion import audit as log

    room = enter(problem)
    report = log.verify(room.store)
    return {"problem": problem, "lines": report.lines, "log": str(room.store.audit)}


def _verdict(files: VersionFiles) -> dict[str, Any]:
    path = files.folder / versions.VERDICT
    found = decode_record(files.read(versions.VERDICT), Verdict, path)
    lineage = files.manifest.lineage
    return {
        "version": files.manifest.version,
        "model": files.manifest.recipe.title,
        "f1": files.manifest.metrics.get("f1"),
        "as_of": lineage.as_of,
        "run_id": lineage.run_id,
        "code_version": lineage.code_version,
        "dag": msgspec.to_builtins(lineage.dag),
        "live": lineage.live,
        **msgspec.to_builtins(found),
    }
