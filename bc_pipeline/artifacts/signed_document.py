"""Files of the volume with a signature beside each.

The signature of ``x.json`` stands in ``x.json.<digest>.sig``, where the digest is the first 16
hex digits of the SHA-256 of the signed bytes. It is written before the file, and the signature
of the bytes before stays. So a reader finds the signature of the bytes that it read, whichever
of the two that were, and a process that is killed between the two writes leaves a valid file.
The files themselves are as earlier releases wrote them, and these go on reading them.

The path on the volume is signed together with the digest: no file is valid under another name,
in another folder or for another problem. `signed_bytes` says what exactly is signed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import (
    decode_document,
    encode_document,
    sha256_bytes,
    sha256_file,
    write_atomic,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import NotStored, SignatureInvalid

D = TypeVar("D", bound=Document)
SIGNATURE_SUFFIX = ".sig"
UNSIGNED_REMEDY = (
    "If an earlier release wrote it, run `bc-pipeline upgrade`; else restore it from a backup."
)
CHANGED_REMEDY = "Restore it from a backup, or remove it and repeat the step that writes it."
_DIGITS = 16
# A file may be replaced between the reading of it and of its signature.
_READS = 5


def signed_bytes(name: str, sha256: str) -> bytes:
    """The bytes that are signed: a file's name and digest.

    Parameters
    ----------
    name : str
        Path of the file on the volume, such as ``models/<problem>/registry.json``.
    sha256 : str
        Digest of its bytes, in hex.
    """
    return f"bc-pipeline file\n{name}\n{sha256}\n".encode()


def signature_name(name: str, sha256: str) -> str:
    """Name of the file with the signature of a file whose bytes have a digest."""
    return f"{name}.{sha256[:_DIGITS]}{SIGNATURE_SUFFIX}"


def make_signature(store: Store, path: Path, sha256: str) -> tuple[str, bytes]:
    """Sign a file.

    Parameters
    ----------
    path : Path
        Where the file will stand.
    sha256 : str
        Digest of its bytes.

    Returns
    -------
    name : str
        Of the signature's file, which belongs into the same folder.
    signature : bytes

    Raises
    ------
    ConfigError
        Where the signing key is missing or no key.
    """
    message = signed_bytes(store.relative(path), sha256)
    return signature_name(path.name, sha256), signing.sign(message, store.signing_key)


def write_signature(store: Store, path: Path, sha256: str) -> None:
    """Write the signature of the bytes that a file has, or is about to get."""
    name, signature = make_signature(store, path, sha256)
    write_atomic(path.with_name(name), signature)


def write_signed(store: Store, path: Path, data: bytes) -> None:
    """Write a file and its signature; the file is replaced as a whole."""
    write_signature(store, path, sha256_bytes(data))
    write_atomic(path, data)


def write_signed_document(store: Store, path: Path, document: Document) -> bytes:
    """Write a document and its signature, and return the document's bytes."""
    data = encode_document(document)
    write_signed(store, path, data)
    return data


def read_signed(store: Store, path: Path, remedy: str = "") -> bytes:
    """The bytes of a file whose signature is valid; errors as of `read_with_signature`."""
    return read_with_signature(store, path, remedy)[0]


def read_with_signature(store: Store, path: Path, remedy: str = "") -> tuple[bytes, bytes]:
    """Read a file, and verify its signature over the bytes that are returned.

    Parameters
    ----------
    remedy : str, optional
        What to do where the signature is not valid.

    Returns
    -------
    data, signature : bytes

    Raises
    ------
    NotStored
        Where there is no such file.
    SignatureInvalid
    """
    for _ in range(_READS):
        data = _read(path)
        sha256 = sha256_bytes(data)
        signature = find_signature(path, sha256)
        if signature is not None:
            verify_signature(store, path, sha256, signature, remedy)
            return data, signature
        if _read(path) == data:
            break
    raise _unsigned(store, path, remedy)


def require_signed(store: Store, path: Path) -> None:
    """Verify the signature of a file that may be large, and that is not replaced meanwhile.

    Raises
    ------
    NotStored, SignatureInvalid
    """
    try:
        sha256 = sha256_file(path)
    except FileNotFoundError:
        raise _not_stored(path) from None
    signature = find_signature(path, sha256)
    if signature is None:
        raise _unsigned(store, path)
    verify_signature(store, path, sha256, signature)


def _unsigned(store: Store, path: Path, remedy: str = "") -> SignatureInvalid:
    changed = any(path.parent.glob(f"{path.name}.*{SIGNATURE_SUFFIX}"))
    return SignatureInvalid(
        f"{store.relative(path)} was changed after it was signed."
        if changed
        else f"{store.relative(path)} is not signed.",
        remedy or (CHANGED_REMEDY if changed else UNSIGNED_REMEDY),
        path=str(path),
    )


def read_signed_document(
    store: Store, path: Path, kind: type[D], known_format: int | None = None, remedy: str = ""
) -> D:
    """Read a document, verify its signature, and decode it as `decode_document` does.

    Raises
    ------
    NotStored, SignatureInvalid, ArtifactCorrupt
    """
    return decode_document(read_signed(store, path, remedy), kind, path, known_format)


def find_signature(path: Path, sha256: str) -> bytes | None:
    """The stored signature of a file's bytes; None where there is none. It is not verified."""
    try:
        return path.with_name(signature_name(path.name, sha256)).read_bytes()
    except FileNotFoundError:
        return None


def verify_signature(
    store: Store, path: Path, sha256: str, signature: bytes, remedy: str = ""
) -> None:
    """Verify the signature of a file's bytes.

    Raises
    ------
    SignatureInvalid
    """
    name = store.relative(path)
    try:
        signing.verify(signed_bytes(name, sha256), signature, store.verify_key, source=name)
    except SignatureInvalid as error:
        if not remedy:
            raise
        raise SignatureInvalid(error.message, remedy, path=str(path)) from None


def remove_signatures(path: Path, *, keep: tuple[bytes, ...]) -> None:
    """Remove the signatures of earlier bytes of a file.

    Parameters
    ----------
    keep : tuple of bytes
        Contents of the file whose signatures stay.
    """
    needed = {signature_name(path.name, sha256_bytes(data)) for data in keep}
    for signature in path.parent.glob(f"{path.name}.*{SIGNATURE_SUFFIX}"):
        if signature.name not in needed:
            signature.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _not_stored(path) from None


def _not_stored(path: Path) -> NotStored:
    return NotStored(f"There is no {path.name} in {path.parent}.")
