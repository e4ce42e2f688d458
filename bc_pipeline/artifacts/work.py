"""Challengers between export and verdict: signed from the start, but not published yet."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from bc_pipeline.artifacts.files import staged_directory
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.sealed import VersionFiles, encrypted, open_version, seal
from bc_pipeline.artifacts.store import Store
from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import NotStored, VersionNotFound

PARITY = "parity.json"


def create(
    store: Store,
    draft: Manifest,
    files: Mapping[str, bytes],
    signing_key: Path,
    cipher: Cipher | None = None,
) -> None:
    """Keep a new challenger; what an earlier attempt at the same one left is replaced.

    Parameters
    ----------
    cipher : Cipher, optional
        Encrypts the model, which then never stands in plain on the volume.
    """
    folder = store.work / draft.version
    discard(store, draft.version)
    with staged_directory(folder) as staged:
        for name, data in files.items():
            (staged / name).write_bytes(encrypted(draft.version, name, data, cipher))
        seal(draft, staged, signing_key)


def find(
    store: Store, version: str, verify_key: Path, cipher: Cipher | None = None
) -> VersionFiles:
    """Find the challenger again.

    Raises
    ------
    NotStored
        Where it was never exported, or was published since.
    SignatureInvalid, ArtifactCorrupt
    """
    try:
        return open_version(store.work / version, verify_key, cipher)
    except VersionNotFound:
        raise NotStored(
            f"There is no exported challenger {version}.", "Run the export step again."
        ) from None


def discard(store: Store, version: str) -> None:
    """Remove what is left of a challenger."""
    shutil.rmtree(store.work / version, ignore_errors=True)
