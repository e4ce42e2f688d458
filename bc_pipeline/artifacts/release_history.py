"""The registry compared with the releases in the audit log, by a reader without a lock."""

from __future__ import annotations

from collections.abc import Sequence

from bc_pipeline.artifacts.audit_log import OUTCOMES, AuditLine
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.errors import AuditBroken, GenerationReplayed

REPAIR_REMEDY = "Run `bc-pipeline registry --repair`, which makes it again from the audit log."


def require_released(registry: Registry, lines: Sequence[AuditLine]) -> None:
    """Refuse a registry whose champion no release in the audit log made, or one that is older.

    A release writes its start to the log before it writes the registry, so lines that are read
    after the registry have it. A log without releases, such as a new one, says nothing.

    Parameters
    ----------
    lines : sequence of AuditLine
        Read after the registry.

    Raises
    ------
    AuditBroken
        Where the log has no such release.
    GenerationReplayed
        Where a later one was concluded.
    """
    concluded = [line for line in lines if line.event in OUTCOMES]
    if not concluded:
        return
    production = registry.production.version if registry.production else None
    last = concluded[-1]
    if registry.generation < last.generation:
        raise GenerationReplayed(
            f"The registry has generation {registry.generation}, and the audit log ends with "
            f"generation {last.generation}.",
            REPAIR_REMEDY,
            served=last.generation,
            found=registry.generation,
        )
    released = {
        (line.generation, line.champion)
        for line in lines
        if line.event in OUTCOMES or line.event == "release_started"
    }
    if (registry.generation, production) not in released:
        raise AuditBroken(
            f"The registry has {production} at generation {registry.generation}; the audit log of "
            f"{registry.problem} has no such release.",
            REPAIR_REMEDY,
            line=len(lines),
        )
