"""Writes and verifies the audit log, whose format is `bc_pipeline.artifacts.audit_log`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import msgspec

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.audit_log import (
    AuditLine,
    AuditLog,
    Event,
    read_audit_log,
)
from bc_pipeline.artifacts.audit_tip import AuditTip
from bc_pipeline.artifacts.files import (
    FILE_MODE,
    locked,
    make_directory,
    sync_directory,
)
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import read_registry, read_unsigned_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time, now
from bc_pipeline.errors import ConfigError
from bc_pipeline.promotion.audit_rules import (
    is_earlier,
    last_release,
    require_agreement,
    require_times,
    unfinished_release,
)


@dataclass(frozen=True)
class AuditReport:
    """A log whose chain and signatures hold.

    Attributes
    ----------
    lines : int
    unsigned_lines : int
        Those at the beginning, of earlier releases; the first signed line covers them.
    distrusted_lines : int
        Signed with a key after it was compromised; they decide nothing.
    tip : AuditTip or None
        The last line; None without lines.
    generation : int
        Of the last release.
    unfinished_line : bool
        Whether a crash left an incomplete line, which the next append removes.
    unfinished_release : str or None
        Version of a release that was started and not concluded; the next release concludes it.
    """

    lines: int
    unsigned_lines: int
    distrusted_lines: int
    tip: AuditTip | None
    generation: int
    unfinished_line: bool
    unfinished_release: str | None

    @property
    def head(self) -> str:
        """Digest of the last line; empty without lines."""
        return self.tip.sha256 if self.tip else ""


def append(
    store: Store,
    event: Event,
    *,
    generation: int,
    actor: str,
    version: str = "",
    at: str | None = None,
    run_id: str | None = None,
    details: dict[str, Any] | None = None,
) -> AuditLine:
    """Add a signed line and make it durable.

    The first line of a new key follows a line that says so. Where `at` is before the last line,
    because the clocks of two machines differ, the line has the later time, and its details have
    the other one.

    Parameters
    ----------
    version : str
        Empty for an event that is not about one version.
    at : str, optional
        ISO 8601; default: now.

    Raises
    ------
    AuditBroken
        Where the log so far does not verify: nothing is appended to it.
    ConfigError
        Where the signing key is missing, or readers do not trust its public key.
    TransientError
        Where another process locks the log for too long.
    """
    make_directory(store.audit.parent)
    with locked(store.audit_lock):
        log = read_audit_log(store)
        distrusts = details["key_id"] if details and event == "key_distrusted" else None
        key_id = _usable_key(store, log, distrusts)
        line = AuditLine(
            sequence=len(log.lines) + 1,
            at=at or format_time(now()),
            event=event,
            problem=store.problem,
            version=version,
            generation=generation,
            actor=actor,
            run_id=run_id,
            details=details or {},
            previous_sha256=log.head,
        )
        last = log.lines[-1] if log.lines else None
        lines = [line]
        if last is not None and last.is_signed and last.key_id != key_id and event not in _KEYS:
            lines.insert(0, _key_rotated(line, str(last.key_id), key_id))
        written = []
        for one in lines:
            last = _follow(one, last).signed(store.signing_key)
            written.append(last)
        _write(store, log.size, written)
    return written[-1]


_KEYS = frozenset({"key_rotated", "key_retired", "key_distrusted"})


def _usable_key(store: Store, log: AuditLog, distrusts: str | None) -> str:
    """Id of the key that signs, if readers trust it.

    Parameters
    ----------
    distrusts : str or None
        The key that the line to be signed declares distrusted: what that key said does not count.
    """
    key_id = signing.key_id(store.signing_key)
    declared = log.distrusted_keys.get(key_id)
    if key_id == distrusts or (declared is not None and declared.key_id != distrusts):
        raise ConfigError(
            f"The signing key {key_id} is distrusted.",
            "Let BC_SIGNING_KEY_FILE name the key that replaced it.",
            setting="BC_SIGNING_KEY_FILE",
        )
    if key_id not in signing.load_public_keys(store.verify_key):
        raise ConfigError(
            f"BC_VERIFY_KEY_FILE does not hold the public key of the signing key {key_id}: "
            "readers would refuse what it signs.",
            "Add the public key for all readers first; `bc-pipeline keys rotate-signing` says how.",
            setting="BC_VERIFY_KEY_FILE",
        )
    return key_id


def _key_rotated(line: AuditLine, former: str, key_id: str) -> AuditLine:
    return msgspec.structs.replace(
        line,
        event="key_rotated",
        version="",
        run_id=None,
        details={"key_id": key_id, "replaces": former},
    )


def _follow(line: AuditLine, last: AuditLine | None) -> AuditLine:
    """The line as the one after `last`, with a time that is not before that one's."""
    if last is None:
        return line
    details, at = line.details, line.at
    if is_earlier(at, last.at):
        details, at = details | {"clock": at}, last.at
    return msgspec.structs.replace(
        line,
        sequence=last.sequence + 1,
        previous_sha256=last.sha256,
        at=at,
        details=details,
    )


def _write(store: Store, size: int, lines: list[AuditLine]) -> None:
    """Write lines after the first `size` bytes, in one write, and make them durable."""
    descriptor = os.open(store.audit, os.O_RDWR | os.O_CREAT, FILE_MODE)
    with os.fdopen(descriptor, "r+b") as stream:
        stream.truncate(size)
        stream.seek(size)
        stream.write(b"".join(line.encode() + b"\n" for line in lines))
        stream.flush()
        os.fsync(descriptor)
    if size == 0:
        sync_directory(store.audit.parent)


def cover_unsigned_lines(store: Store, *, actor: str) -> AuditLine | None:
    """Append a signed line that covers an unsigned log of an earlier release.

    Returns
    -------
    AuditLine or None
        None where there is no line, or the last one is signed already.

    Raises
    ------
    AuditBroken, ArtifactCorrupt
        Where the log does not verify, or does not agree with the registry.
    """
    with locked(store.registry_lock):
        report = _check(read_audit_log(store), read_registry(store))
    if report.tip is None or report.tip.signature is not None:
        return None
    return append(
        store,
        "log_signed",
        generation=report.generation,
        actor=actor,
        details={"unsigned_lines": report.lines, "head": report.head},
    )


def verify(store: Store, tip: AuditTip | None = None, *, signed: bool = True) -> AuditReport:
    """Check chain, signatures and times, that generations follow, and that the registry agrees.

    Parameters
    ----------
    tip : AuditTip, optional
        Of this log, stored elsewhere: the log must have its line.
    signed : bool
        False for a volume of format 1, whose registry has no signature.

    Raises
    ------
    AuditBroken
        Naming the first line that is wrong.
    SignatureInvalid
        Where the tip does not verify.
    ArtifactCorrupt
        Where the registry cannot be read.
    """
    # The two files differ during a release, so none may run meanwhile.
    with locked(store.registry_lock):
        log = read_audit_log(store)
        registry = read_registry(store) if signed else read_unsigned_registry(store)
    if signed:
        log.require_signed_end()
    if tip is not None:
        tip.verify(signing.load_public_keys(store.verify_key) if tip.signature else {})
        log.require_tip(tip)
    return _check(log, registry)


def _check(log: AuditLog, registry: Registry) -> AuditReport:
    require_times(log.lines)
    require_agreement(registry, log.lines)
    started = unfinished_release(log.lines)
    return AuditReport(
        lines=len(log.lines),
        unsigned_lines=len(log.lines) - log.signed_lines,
        distrusted_lines=len(log.distrusted),
        tip=log.tip,
        generation=last_release(log.lines)[0],
        unfinished_line=log.has_incomplete_line,
        unfinished_release=started.version if started else None,
    )
