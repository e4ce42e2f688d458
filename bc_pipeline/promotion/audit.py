"""The audit log: one JSON line per decision, each bound to the line before by its digest.

A line counts once it is whole and on the disk. What a crash left of an unfinished last
line was never acknowledged to anybody: the next append removes it. Any other change to the
file breaks the chain.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import msgspec

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.artifacts.files import (
    FILE_MODE,
    locked,
    make_directory,
    sha256_bytes,
    sync_directory,
)
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import read_registry
from bc_pipeline.errors import AuditBroken

Event = Literal[
    "verdict", "approval", "release_started", "release_abandoned", "promotion", "rollback"
]
# `release_started` stands before the pointer moves; one of the others follows it.
OUTCOMES = frozenset({"promotion", "rollback"})
RELEASES = OUTCOMES | {"release_started", "release_abandoned"}
GENESIS = "0" * 64
_REMEDY = (
    "Compare it with a backup and do not mend it. To go on without it, move the file away: "
    "a new chain starts."
)


class AuditLine(Record, frozen=True, kw_only=True):
    """One decision.

    Attributes
    ----------
    sequence : int
        From 1.
    at : str
        ISO 8601, UTC: when it was decided.
    generation : int
        For a release, the one that it makes; else the one it was decided under.
    actor : str
        Who or what decided.
    previous_sha256 : str
        `sha256` of the line before; zeros for the first.
    sha256 : str
        Of this line as it stands in the file, with this field empty.
    """

    sequence: int
    at: str
    event: Event
    problem: str
    version: str
    generation: int
    actor: str
    run_id: str | None
    details: dict[str, Any]
    previous_sha256: str
    sha256: str = ""


@dataclass(frozen=True)
class AuditReport:
    """A log whose chain holds.

    Attributes
    ----------
    lines : int
    head : str
        Digest of the last line: kept elsewhere, it also proves that no line was cut off.
    generation : int
        Of the last release.
    unfinished_line : bool
        Whether a crash left a part of a line, which the next append removes.
    unfinished_release : str or None
        Version of a release that was started and not concluded; the next release does it.
    """

    lines: int
    head: str
    generation: int
    unfinished_line: bool
    unfinished_release: str | None


def append(
    store: Store,
    event: Event,
    *,
    version: str,
    generation: int,
    actor: str,
    at: str,
    run_id: str | None = None,
    details: dict[str, Any] | None = None,
) -> AuditLine:
    """Add a line and make it durable.

    Raises
    ------
    AuditBroken
        Where the chain so far does not hold: nothing is built on it.
    TransientError
        Where another process holds the log for too long.
    """
    make_directory(store.audit.parent)
    with locked(store.audit_lock):
        lines, whole, _ = _load(store)
        line = _sealed(
            AuditLine(
                sequence=len(lines) + 1,
                at=at,
                event=event,
                problem=store.problem,
                version=version,
                generation=generation,
                actor=actor,
                run_id=run_id,
                details=details or {},
                previous_sha256=lines[-1].sha256 if lines else GENESIS,
            )
        )
        descriptor = os.open(store.audit, os.O_RDWR | os.O_CREAT, FILE_MODE)
        with os.fdopen(descriptor, "r+b") as stream:
            stream.truncate(whole)
            stream.seek(whole)
            stream.write(_encode(line) + b"\n")
            stream.flush()
            os.fsync(descriptor)
        if not lines:
            sync_directory(store.audit.parent)
    return line


def read(store: Store) -> list[AuditLine]:
    """Every whole line, after the chain was checked.

    Raises
    ------
    AuditBroken
    """
    return _load(store)[0]


def verify(store: Store) -> AuditReport:
    """Check the chain, that generations follow each other, and that the registry agrees.

    Raises
    ------
    AuditBroken
        Naming the first line that does not hold.
    ArtifactCorrupt
        Where the registry cannot be read.
    """
    # Between a release's start and its outcome the two files rightly differ.
    with locked(store.registry_lock):
        lines, _, torn = _load(store)
        registry = read_registry(store)
    require_agreement(registry, lines)
    started = unfinished_release(lines)
    return AuditReport(
        lines=len(lines),
        head=lines[-1].sha256 if lines else GENESIS,
        generation=_last_release(lines)[0],
        unfinished_line=torn,
        unfinished_release=started.version if started else None,
    )


def require_agreement(registry: Registry, lines: list[AuditLine]) -> None:
    """Make sure that what is live is what the last release, or one under way, made live.

    Raises
    ------
    AuditBroken
    """
    generation, champion = _last_release(lines)
    states = {(generation, champion)}
    started = unfinished_release(lines)
    if started is not None:
        states.add((started.generation, started.version))
    live = registry.production.version if registry.production else None
    if (registry.generation, live) not in states:
        raise AuditBroken(
            f"The registry has {live} at generation {registry.generation}; the audit log of "
            f"{registry.problem} ends with {champion} at generation {generation}.",
            "One of the two was changed by something else than a release: restore it from a "
            "backup.",
            line=len(lines),
        )


def unfinished_release(lines: list[AuditLine]) -> AuditLine | None:
    """The start of a release that has no outcome yet; it can only be the last release."""
    releases = [line for line in lines if line.event in RELEASES]
    return releases[-1] if releases and releases[-1].event == "release_started" else None


def _last_release(lines: list[AuditLine]) -> tuple[int, str | None]:
    """Generation and version of the last release, having seen that none is missing."""
    outcomes = [line for line in lines if line.event in OUTCOMES]
    for before, after in pairwise(outcomes):
        if after.generation != before.generation + 1:
            raise AuditBroken(
                f"Generation {after.generation} follows generation {before.generation} in the "
                f"audit log of {after.problem}.",
                _REMEDY,
                line=after.sequence,
            )
    return (outcomes[-1].generation, outcomes[-1].version) if outcomes else (0, None)


def _load(store: Store) -> tuple[list[AuditLine], int, bool]:
    """Lines, length of the file in whole lines, and whether an unfinished one follows."""
    try:
        data = store.audit.read_bytes()
    except FileNotFoundError:
        return [], 0, False
    whole = data.rfind(b"\n") + 1
    lines: list[AuditLine] = []
    for number, raw in enumerate(data[:whole].split(b"\n")[:-1], start=1):
        previous = lines[-1].sha256 if lines else GENESIS
        lines.append(_checked(raw, number, previous, store.problem))
    return lines, whole, whole < len(data)


def _checked(raw: bytes, number: int, previous: str, problem: str) -> AuditLine:
    try:
        line = msgspec.json.decode(raw, type=AuditLine)
    except msgspec.MsgspecError:
        wrong = "is not an audit line"
    else:
        # The exact bytes count: another spacing or order of fields is a change too.
        if _encode(_sealed(line)) != raw:
            wrong = "was changed"
        elif line.previous_sha256 != previous or line.sequence != number:
            wrong = "does not follow the line before it"
        elif line.problem != problem:
            wrong = f"belongs to {line.problem}"
        else:
            return line
    raise AuditBroken(f"Line {number} of {problem}'s audit log {wrong}.", _REMEDY, line=number)


def _encode(line: AuditLine) -> bytes:
    return msgspec.json.encode(line)


def _sealed(line: AuditLine) -> AuditLine:
    """The line with the digest that belongs to it."""
    bare = msgspec.structs.replace(line, sha256="")
    return msgspec.structs.replace(bare, sha256=sha256_bytes(_encode(bare)))
