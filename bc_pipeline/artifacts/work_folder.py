"""Challengers between export and verdict: signed, and not yet published."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import sha256_bytes, staged_directory, write_atomic
from bc_pipeline.artifacts.manifest import FileEntry, Manifest
from bc_pipeline.artifacts.signed_bundle import (
    VersionFiles,
    encrypt_if_model,
    open_version,
    sign_bundle,
)
from bc_pipeline.artifacts.signed_document import read_signed_document, write_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import ArtifactCorrupt, NotStored, VersionNotFound

# Lists what the evaluation added to the challenger's files; no part of a version.
EVIDENCE = "evidence.json"


class EvidenceFiles(Document, frozen=True, kw_only=True):
    """Files of an evaluation; the format of ``evidence.json``, which is signed.

    Attributes
    ----------
    manifest_sha256 : str
        Of the challenger's manifest.
    """

    format: int = 1
    version: str
    manifest_sha256: str
    files: dict[str, FileEntry]


def create(
    store: Store,
    draft: Manifest,
    files: Mapping[str, bytes],
    signing_key: Path,
    cipher: Cipher | None = None,
) -> None:
    """Store a new challenger; one that an earlier attempt left is replaced.

    Parameters
    ----------
    cipher : Cipher, optional
        Encrypts the model before it is written.
    """
    folder = store.work / draft.version
    discard(store, draft.version)
    with staged_directory(folder) as staged:
        for name, data in files.items():
            (staged / name).write_bytes(encrypt_if_model(draft.version, name, data, cipher))
        sign_bundle(draft, staged, signing_key)


def open_challenger(
    store: Store, version: str, verify_key: Path, cipher: Cipher | None = None
) -> VersionFiles:
    """Open a stored challenger.

    Raises
    ------
    NotStored
        Where it was never exported, or is published already.
    SignatureInvalid
    ArtifactCorrupt
        Also where the folder holds another challenger.
    """
    try:
        files = open_version(store.work / version, verify_key, cipher)
    except VersionNotFound:
        raise NotStored(
            f"There is no exported challenger {version}.", "Run the export step again."
        ) from None
    files.require_identity(store.problem, version, f"challenger {store.problem} {version}")
    return files


def write_evidence(store: Store, challenger: VersionFiles, files: Mapping[str, bytes]) -> None:
    """Add the files of an evaluation to a challenger, and sign the list of them.

    What an earlier evaluation, or a killed one, left is replaced.
    """
    for leftover in challenger.folder.rglob(".*"):
        leftover.unlink(missing_ok=True)
    for name, data in files.items():
        write_atomic(challenger.folder / name, data)
    document = EvidenceFiles(
        version=challenger.manifest.version,
        manifest_sha256=challenger.manifest_sha256,
        files={name: FileEntry(sha256_bytes(data), len(data)) for name, data in files.items()},
    )
    write_signed_document(store, challenger.folder / EVIDENCE, document)


def open_evaluated(
    store: Store, version: str, verify_key: Path, cipher: Cipher | None = None
) -> VersionFiles:
    """Open a challenger with the files of its evaluation, all of them verified.

    Returns
    -------
    VersionFiles
        Its manifest lists the files of the evaluation too.

    Raises
    ------
    NotStored
        Where it was never exported or evaluated, or is published already.
    SignatureInvalid, ArtifactCorrupt
        Naming every file that is missing, differs or was added.
    """
    challenger = open_challenger(store, version, verify_key, cipher)
    path = challenger.folder / EVIDENCE
    try:
        evidence = read_signed_document(store, path, EvidenceFiles, remedy=_REMEDY)
    except NotStored:
        raise NotStored(
            f"The challenger {version} was not evaluated.", "Run the evaluate step."
        ) from None
    if evidence.manifest_sha256 != challenger.manifest_sha256:
        raise ArtifactCorrupt(
            f"{EVIDENCE} of {version} is about another export of it.", _REMEDY, path=str(path)
        )
    manifest = challenger.manifest
    signatures = {entry.name for entry in challenger.folder.glob(f"{EVIDENCE}.*")}
    evaluated = replace(
        challenger,
        manifest=msgspec.structs.replace(manifest, files=manifest.files | evidence.files),
        unlisted=challenger.unlisted | {EVIDENCE} | signatures,
    )
    evaluated.verify_all()
    return evaluated


_REMEDY = "Run the evaluate step again."


def discard(store: Store, version: str) -> None:
    """Remove a challenger, if it exists."""
    shutil.rmtree(store.work / version, ignore_errors=True)
