"""Rules of an audit log's lines: their times, their generations, and the registry."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from bc_pipeline.artifacts.audit_log import AUDIT_REMEDY, OUTCOMES, RELEASES, AuditLine
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.clock import parse_time
from bc_pipeline.errors import AuditBroken, ConfigError

# Clocks of machines that wrote unsigned lines of earlier releases may have differed by this much.
UNSIGNED_CLOCKS = timedelta(days=1)


def is_earlier(at: str, than: str, allowed: timedelta = timedelta(0)) -> bool:
    """Whether a time is before another one by more than what is allowed, or one of them is none."""
    try:
        return parse_time(at) < parse_time(than) - allowed
    except (ConfigError, OverflowError):
        return True


def require_times(lines: list[AuditLine]) -> None:
    """Check that no line is older than the one before it."""
    for before, after in pairwise(lines):
        allowed = timedelta(0) if after.is_signed else UNSIGNED_CLOCKS
        if is_earlier(after.at, before.at, allowed):
            raise AuditBroken(
                f"Line {after.sequence} of {after.problem}'s audit log is of {after.at}, and the "
                f"line before it is of {before.at}.",
                AUDIT_REMEDY,
                line=after.sequence,
            )


def require_agreement(registry: Registry, lines: list[AuditLine]) -> None:
    """Compare the registry with the last release in the log, or with an unfinished one.

    Raises
    ------
    AuditBroken
    """
    generation, champion = last_release(lines)
    states = {(generation, champion)}
    started = unfinished_release(lines)
    if started is not None:
        states.add((started.generation, started.champion))
    production = registry.production.version if registry.production else None
    if (registry.generation, production) not in states:
        raise AuditBroken(
            f"The registry has {production} at generation {registry.generation}; the audit log of "
            f"{registry.problem} ends with {champion} at generation {generation}.",
            "One of the two was changed by something else than a release: `bc-pipeline registry "
            "--repair` makes the registry again from the log, or restore both from a backup.",
            line=len(lines),
        )


def unfinished_release(lines: list[AuditLine]) -> AuditLine | None:
    """The start of a release that has no outcome yet; it can only be the last release."""
    releases = [line for line in lines if line.event in RELEASES]
    return releases[-1] if releases and releases[-1].event == "release_started" else None


def last_release(lines: list[AuditLine]) -> tuple[int, str | None]:
    """Generation and version of the last release; no generation may be missing before it."""
    outcomes = [line for line in lines if line.event in OUTCOMES]
    for before, after in pairwise(outcomes):
        if after.generation != before.generation + 1:
            raise AuditBroken(
                f"Generation {after.generation} follows generation {before.generation} in the "
                f"audit log of {after.problem}.",
                AUDIT_REMEDY,
                line=after.sequence,
            )
    if not outcomes:
        return 0, None
    return outcomes[-1].generation, outcomes[-1].champion
