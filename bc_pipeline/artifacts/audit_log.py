"""Format and reader of the audit log: JSON lines, each with the digest of the line before it.

A line counts once it is complete and on the disk. An incomplete last line, which a crash may
leave, was never acknowledged; the next append removes it. Any other change breaks the chain.

Every line is signed. Logs of earlier releases begin with unsigned lines; from the first signed
line on, every line must be. A line whose key is no longer trusted counts where a later line of a
trusted key follows: nobody without that key can continue the chain, and who has it verified the
lines before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.audit_tip import AuditTip
from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import sha256_bytes
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import AuditBroken, SignatureInvalid

Event = Literal[
    "verdict",
    "approval",
    "release_started",
    "release_abandoned",
    "promotion",
    "rollback",
    "withdrawal",
    "anchor",
    "log_signed",
    "batch_withdrawn",
    "batch_restored",
    "erasure",
    "batch_held",
    "batch_accepted",
    "pruned",
    "key_rotated",
    "key_retired",
    "key_distrusted",
]
# `release_started` precedes the change of the registry; one of the others follows it. After a
# withdrawal there is no champion.
OUTCOMES = frozenset({"promotion", "rollback", "withdrawal"})
RELEASES = OUTCOMES | {"release_started", "release_abandoned"}
GENESIS = "0" * 64
AUDIT_REMEDY = (
    "Compare it with a backup and do not repair it. To go on without it, move the file away: "
    "a new chain starts."
)


class AuditLine(Document, frozen=True, kw_only=True):
    """One decision.

    Attributes
    ----------
    sequence : int
        From 1.
    at : str
        ISO 8601, UTC: when it was decided; never before the time of the line before.
    version : str
        Empty where the event is not about one version.
    generation : int
        For a release, the generation that it makes; else the current one.
    actor : str
        Who or what decided.
    previous_sha256 : str
        `sha256` of the line before; zeros for the first.
    sha256 : str
        Of this line as in the file, with this field and `signature` empty.
    key_id, signature : str
        Key and signature of `AuditTip.statement`; absent in lines of earlier releases.
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
    key_id: str | msgspec.UnsetType = msgspec.UNSET
    signature: str | msgspec.UnsetType = msgspec.UNSET

    def with_digest(self) -> AuditLine:
        """The line with its own digest."""
        empty = "" if self.is_signed else msgspec.UNSET
        bare = msgspec.structs.replace(self, sha256="", signature=empty)
        return msgspec.structs.replace(
            bare, sha256=sha256_bytes(bare.encode()), signature=self.signature
        )

    def signed(self, private_path: Path) -> AuditLine:
        """The line with digest, key id and signature.

        Raises
        ------
        ConfigError
            Where the key is missing or is not an Ed25519 private key.
        """
        line = msgspec.structs.replace(
            self, key_id=signing.key_id(private_path), signature=""
        ).with_digest()
        signature = signing.sign(line.tip.statement, private_path).hex()
        return msgspec.structs.replace(line, signature=signature)

    @property
    def champion(self) -> str | None:
        """The champion after this release; a withdrawal names the version that is gone."""
        withdrawn = "withdrawal" in (self.event, self.details.get("release"))
        return None if withdrawn else self.version

    @property
    def is_signed(self) -> bool:
        return self.key_id is not msgspec.UNSET or self.signature is not msgspec.UNSET

    @property
    def tip(self) -> AuditTip:
        """The log's tip where this is the last line."""
        return AuditTip(
            problem=self.problem,
            sequence=self.sequence,
            at=self.at,
            sha256=self.sha256,
            key_id=None if self.key_id is msgspec.UNSET else self.key_id,
            signature=None if self.signature is msgspec.UNSET else self.signature,
        )

    def encode(self) -> bytes:
        """The bytes of the line, without the line end."""
        return msgspec.json.encode(self)


@dataclass(frozen=True)
class AuditLog:
    """The complete lines of a log whose chain and signatures hold.

    Attributes
    ----------
    lines : list of AuditLine
        All of them.
    distrusted : frozenset of int
        Sequence numbers of lines that a distrusted key signed after it was compromised: they
        are part of the chain and decide nothing.
    size : int
        Bytes of the complete lines.
    has_incomplete_line : bool
        Whether more bytes follow them.
    """

    lines: list[AuditLine]
    distrusted: frozenset[int]
    size: int
    has_incomplete_line: bool

    @property
    def head(self) -> str:
        """Digest of the last line; zeros where there is none."""
        return self.lines[-1].sha256 if self.lines else GENESIS

    @property
    def trusted(self) -> list[AuditLine]:
        """The lines that count for a decision."""
        return [line for line in self.lines if line.sequence not in self.distrusted]

    @property
    def signed_lines(self) -> int:
        return sum(line.is_signed for line in self.lines)

    @property
    def tip(self) -> AuditTip | None:
        """That of the last line; None without lines."""
        return self.lines[-1].tip if self.lines else None

    @property
    def distrusted_keys(self) -> dict[str, AuditLine]:
        """The last line that declares a key distrusted, by the key's id."""
        return {
            line.details["key_id"]: line for line in self.trusted if line.event == "key_distrusted"
        }

    def require_signed_end(self) -> None:
        """Refuse a log that has unsigned lines only, as an earlier release wrote it.

        A volume of this release has no such log: its upgrade appends a signed line.

        Raises
        ------
        AuditBroken
        """
        if self.lines and not self.lines[-1].is_signed:
            raise AuditBroken(
                f"No line of {self.lines[-1].problem}'s audit log is signed.",
                "If an earlier release wrote it, run `bc-pipeline upgrade`; else restore it from a "
                "backup.",
                line=len(self.lines),
            )

    def require_tip(self, tip: AuditTip) -> None:
        """Check that the log still has the line of a tip that was stored earlier.

        Raises
        ------
        AuditBroken
        """
        if tip.sequence > len(self.lines):
            raise AuditBroken(
                f"The audit log of {tip.problem} ends with line {len(self.lines)}; it had line "
                f"{tip.sequence} of {tip.at}: its end was cut off.",
                "Restore it from a backup.",
                line=len(self.lines),
            )
        if tip.sequence < 1 or self.lines[tip.sequence - 1].tip != tip:
            raise AuditBroken(
                f"Line {tip.sequence} of {tip.problem}'s audit log is not the one of the tip of "
                f"{tip.at}: the log was written anew, or the tip is of another one.",
                "Compare both with a backup.",
                line=tip.sequence,
            )


def read_audit_log(store: Store) -> AuditLog:
    """Read the complete lines, check chain and signatures; no lines where there is no file.

    Raises
    ------
    AuditBroken
        Naming the first line that is wrong.
    ConfigError
        Where there are signed lines, and the key is missing or is not an Ed25519 key.
    """
    try:
        data = store.audit.read_bytes()
    except FileNotFoundError:
        return AuditLog([], frozenset(), 0, False)
    size = data.rfind(b"\n") + 1
    lines: list[AuditLine] = []
    for number, raw in enumerate(data[:size].split(b"\n")[:-1], start=1):
        previous = lines[-1] if lines else None
        lines.append(_decode_line(raw, number, previous, store.problem))
    signed = any(line.is_signed for line in lines)
    keys = signing.load_public_keys(store.verify_key) if signed else {}
    _require_signatures(lines, keys, store.problem)
    return AuditLog(lines, _distrusted(lines, store.problem), size, size < len(data))


def list_erasures(path: Path) -> list[AuditLine]:
    """Lines about erasures in the file of a log that need not verify, such as a damaged one."""
    erasures = []
    for raw in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            line = msgspec.json.decode(raw, type=AuditLine)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if line.event == "erasure":
            erasures.append(line)
    return erasures


def _decode_line(raw: bytes, number: int, previous: AuditLine | None, problem: str) -> AuditLine:
    try:
        line = msgspec.json.decode(raw, type=AuditLine)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _broken(problem, number, "is not an audit line") from None
    # The exact bytes count: other spacing or another order of fields is a change too.
    if line.with_digest().encode() != raw:
        raise _broken(problem, number, "was changed")
    head = previous.sha256 if previous else GENESIS
    if line.previous_sha256 != head or line.sequence != number:
        raise _broken(problem, number, "does not follow the line before it")
    if line.problem != problem:
        raise _broken(problem, number, f"belongs to {line.problem}")
    if previous is not None and previous.is_signed and not line.is_signed:
        raise _broken(problem, number, "is not signed, and the line before it is")
    return line


def _require_signatures(
    lines: list[AuditLine], keys: dict[str, Ed25519PublicKey], problem: str
) -> None:
    """Check the signatures of trusted keys; a line of another key needs a later one of theirs."""
    covered = max((line.sequence for line in lines if line.key_id in keys), default=0)
    for line in lines:
        if not line.is_signed:
            continue
        if line.key_id in keys:
            try:
                line.tip.verify(keys)
            except SignatureInvalid:
                raise _broken(problem, line.sequence, "does not bear its key's signature") from None
        elif line.sequence > covered:
            raise _broken(
                problem,
                line.sequence,
                f"is signed with the key {line.key_id}, which is not a trusted one "
                f"({', '.join(keys) or 'none'})",
                "If the signing key was replaced, let BC_VERIFY_KEY_FILE hold the new public key; "
                "else compare the log with a backup, and do not repair it.",
            )


def _distrusted(lines: list[AuditLine], problem: str) -> frozenset[int]:
    """Lines that a distrusted key signed after the last line that is trusted."""
    distrusted: set[int] = set()
    # From the end, to skip declarations by keys that a later line distrusts: the holder of a
    # compromised key may have declared another key distrusted.
    for line in reversed(lines):
        if line.event != "key_distrusted" or line.sequence in distrusted:
            continue
        key, last = line.details["key_id"], line.details["trusted_sequence"]
        for other in lines:
            if other.key_id == key and other.sequence > line.sequence:
                raise _broken(problem, other.sequence, f"is signed with the distrusted key {key}")
            if other.key_id == key and other.sequence > last:
                distrusted.add(other.sequence)
    return frozenset(distrusted)


def _broken(problem: str, number: int, defect: str, remedy: str = AUDIT_REMEDY) -> AuditBroken:
    return AuditBroken(f"Line {number} of {problem}'s audit log {defect}.", remedy, line=number)
