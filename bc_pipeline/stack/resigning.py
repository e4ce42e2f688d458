"""Signs again, with the present key, what a former key signed."""

from __future__ import annotations

from pathlib import Path

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.files import sha256_bytes, sha256_file, write_atomic
from bc_pipeline.artifacts.signed_bundle import MANIFEST, SIGNATURE
from bc_pipeline.artifacts.signed_document import find_signature, signed_bytes, write_signature
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import open_verified
from bc_pipeline.artifacts.work_folder import EVIDENCE, open_challenger, open_evaluated
from bc_pipeline.errors import ArtifactCorrupt, SignatureInvalid
from bc_pipeline.stack.sign_volume import signed_files


def list_signed_files(store: Store) -> list[Path]:
    """Every file of a problem that has a signature beside it; challengers in work not included."""
    return [
        *signed_files(store),
        *sorted(store.batch_histories.glob("[!.]*.json")),
        *sorted(store.erasures.glob("[!.]*.json")),
    ]


def list_challengers(store: Store) -> list[Path]:
    """Folders of challengers that were not published."""
    return sorted(path for path in store.work.glob("[!.]*") if path.is_dir())


def file_signer(store: Store, path: Path) -> str | None:
    """Id of the trusted key that signed a file; None where none did."""
    sha256 = sha256_file(path)
    signature = find_signature(path, sha256)
    if signature is None:
        return None
    return _signer(store, signed_bytes(store.relative(path), sha256), signature)


def resign_file(store: Store, path: Path) -> None:
    """Replace a file's signature by one of the present key."""
    write_signature(store, path, sha256_file(path))


def bundle_signer(store: Store, folder: Path) -> tuple[str | None, str]:
    """Id of the trusted key that signed a folder's manifest, or None; and the manifest's digest."""
    try:
        data = (folder / MANIFEST).read_bytes()
        signature = (folder / SIGNATURE).read_bytes()
    except OSError:
        return None, ""
    return _signer(store, data, signature), sha256_bytes(data)


def resign_version(store: Store, version: str) -> None:
    """Verify a version as a whole, and replace its signature by one of the present key.

    Raises
    ------
    ArtifactCorrupt, SignatureInvalid, VersionNotFound
    """
    files = open_verified(store, version, store.verify_key)
    data = (files.folder / MANIFEST).read_bytes()
    if sha256_bytes(data) != files.manifest_sha256:
        raise ArtifactCorrupt(f"{MANIFEST} of {version} was changed.", path=str(files.folder))
    write_atomic(files.folder / SIGNATURE, signing.sign(data, store.signing_key))


def resign_challenger(store: Store, folder: Path) -> None:
    """Verify an unpublished challenger as a whole, and sign it with the present key.

    Raises
    ------
    ArtifactCorrupt, SignatureInvalid, NotStored
    """
    evidence = folder / EVIDENCE
    evaluated = evidence.is_file()
    opened = open_evaluated if evaluated else open_challenger
    files = opened(store, folder.name, store.verify_key)
    files.verify_all()
    data = (folder / MANIFEST).read_bytes()
    if sha256_bytes(data) != files.manifest_sha256:
        raise ArtifactCorrupt(f"{MANIFEST} of {folder.name} was changed.", path=str(folder))
    if evaluated:
        resign_file(store, evidence)
    write_atomic(folder / SIGNATURE, signing.sign(data, store.signing_key))


def _signer(store: Store, data: bytes, signature: bytes) -> str | None:
    try:
        return signing.verify(data, signature, store.verify_key)
    except SignatureInvalid:
        return None
