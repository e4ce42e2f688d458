"""The tip of an audit log: what a person stores elsewhere to prove later that nothing was cut off.

A line's signature is one over its tip, which has the digest of the whole line. So anybody who
has the public key checks a tip by itself, without the log.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bc_pipeline.artifacts.document import Document
from bc_pipeline.errors import ArtifactCorrupt, SignatureInvalid

FORMAT = 1


class AuditTip(Document, frozen=True, kw_only=True):
    """The last line of a log, at some moment.

    Attributes
    ----------
    sequence : int
        Of the line, from 1.
    at : str
        ISO 8601, UTC: time of the line.
    sha256 : str
        Digest of the line, and through the chain of all lines before it.
    key_id : str or None
        Key of the signature; None, as the signature, for an unsigned line of an earlier release.
    signature : str or None
        Ed25519 over `statement`, in hexadecimal digits.
    """

    format: int = FORMAT
    problem: str
    sequence: int
    at: str
    sha256: str
    key_id: str | None = None
    signature: str | None = None

    @property
    def statement(self) -> bytes:
        """The bytes that are signed."""
        fields = ("bc-pipeline audit line", self.problem, str(self.sequence), self.at, self.sha256)
        return b"".join(field.encode() + b"\n" for field in fields)

    def verify(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Check the signature; an unsigned tip has none.

        Parameters
        ----------
        keys : mapping of str to Ed25519PublicKey
            The trusted keys by id, as `signing.load_public_keys` returns them.

        Raises
        ------
        SignatureInvalid
        """
        if self.signature is None or self.key_id is None:
            return
        source = f"Tip {self.sequence} of {self.problem}'s audit log"
        if self.key_id not in keys:
            raise SignatureInvalid(
                f"{source} is signed with the key {self.key_id}, which is not a trusted one "
                f"({', '.join(keys) or 'none'}).",
                "Let BC_VERIFY_KEY_FILE hold the public key of then.",
                path=source,
            )
        try:
            keys[self.key_id].verify(bytes.fromhex(self.signature), self.statement)
        except (InvalidSignature, ValueError):
            raise SignatureInvalid(
                f"{source} does not bear its key's signature: it was changed.", path=source
            ) from None


def decode_tip(data: bytes, source: str) -> AuditTip:
    """Decode a tip that was stored elsewhere.

    Raises
    ------
    ArtifactCorrupt
        Where the bytes are no tip of a format that this code reads.
    """
    try:
        tip = msgspec.json.decode(data, type=AuditTip)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        tip = None
    if tip is None or tip.format != FORMAT or (tip.key_id is None) != (tip.signature is None):
        raise ArtifactCorrupt(
            f"{source} is not a tip of an audit log.",
            "Take one with `bc-pipeline audit tip`.",
            path=source,
        )
    return tip
