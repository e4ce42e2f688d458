"""Model versions on the volume: how they are named, published, listed and opened."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec

from bc_pipeline.artifacts.files import (
    decode_record,
    make_directory,
    staged_directory,
    sync_directory,
)
from bc_pipeline.artifacts.manifest import REGISTRY_FORMAT, Manifest, Pointer, Registry
from bc_pipeline.artifacts.sealed import (
    CARD,
    ESTIMATOR,
    EVALUATION,
    FIGURES,
    MANIFEST,
    MODEL,
    SIGNATURE,
    VERDICT,
    VersionFiles,
    open_version,
    require_format,
    seal,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import parse_time
from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import ArtifactCorrupt, NoChampion, VersionConflict, VersionNotFound

__all__ = [
    "CARD",
    "ESTIMATOR",
    "EVALUATION",
    "FIGURES",
    "MANIFEST",
    "MODEL",
    "SIGNATURE",
    "VERDICT",
    "VersionFiles",
    "list_versions",
    "open_champion",
    "open_pointer",
    "open_stored",
    "open_version",
    "publish",
    "read_registry",
    "seal",
    "version_name",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def version_name(as_of: str, candidate: str, **inputs: Any) -> str:
    """Name of the version that a run with these inputs makes.

    Parameters
    ----------
    as_of : str
        The run's as-of time, ISO 8601: never the clock, so that the same run again gives
        the same name.
    candidate : str
    **inputs
        JSON values: dataset, recipe, params, seed, threshold, code version and whatever
        else changes the outcome.

    Returns
    -------
    str
        Such as ``20261115T000000Z-logistic-3f2a9c1b7d``: sorts by as-of time.
    """
    moment = parse_time(as_of)
    plain = inputs | {"as_of": moment.isoformat(), "candidate": candidate}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{moment:%Y%m%dT%H%M%SZ}-{candidate}-{digest}"


def publish(store: Store, draft: Manifest, folder: Path, signing_key: Path) -> Manifest:
    """Seal a copy of a folder, make it the immutable version of its name, and drop the folder.

    Where that version is there already, the same run is being made again: the stored one
    is verified and stands, and `folder` is removed.

    Parameters
    ----------
    folder : Path
        Such as ``store.work / draft.version``.

    Returns
    -------
    Manifest
        Of the version that now stands.

    Raises
    ------
    VersionConflict
        Where a version of that name was made from other inputs.
    ArtifactCorrupt, SignatureInvalid
        Where the version that is there does not verify.
    """
    final = store.version(draft.version)
    make_directory(final.parent)
    if not final.exists():
        try:
            # Sealed aside: where that is cut short, `folder` bears its signature as before.
            with staged_directory(final) as staged:
                shutil.copytree(folder, staged, dirs_exist_ok=True)
                manifest = seal(draft, staged, signing_key)
        except OSError:
            # Another process was faster: its version is checked like one of an earlier run.
            if not final.exists():
                raise
        else:
            shutil.rmtree(folder, ignore_errors=True)
            return manifest
    stored = open_stored(store, draft.version, signing_key)
    stored.verify_all()
    _require_same_inputs(draft, stored.manifest)
    sync_directory(final.parent)
    shutil.rmtree(folder, ignore_errors=True)
    return stored.manifest


def _inputs(manifest: Manifest) -> dict[str, Any]:
    """What went into a version, without the names of the run that happened to make it."""
    lineage = manifest.lineage
    return {
        "problem": manifest.problem,
        "recipe": manifest.recipe,
        "threshold": manifest.threshold,
        "labels": msgspec.to_builtins(manifest.labels),
        "schema": manifest.schema_fingerprint,
        "dataset": lineage.dataset,
        "batches": lineage.batches,
        "as of": lineage.as_of,
        "split": (lineage.split_salt, lineage.train_rows, lineage.holdout_rows),
        "code": lineage.code_version,
        "live": lineage.live,
    }


def _require_same_inputs(draft: Manifest, stored: Manifest) -> None:
    ours, theirs = _inputs(draft), _inputs(stored)
    # Both sides in JSON form: a draft may hold tuples where the stored one holds lists.
    differing = [
        name
        for name in ours
        if msgspec.json.encode(ours[name], order="deterministic")
        != msgspec.json.encode(theirs[name], order="deterministic")
    ]
    if differing:
        raise VersionConflict(
            f"Version {draft.version} is there already, made with another {', '.join(differing)}.",
            "The inputs of its name must include what differs.",
            expected=", ".join(f"{name}={ours[name]}" for name in differing),
            found=", ".join(f"{name}={theirs[name]}" for name in differing),
        )


def open_stored(
    store: Store, version: str, verify_key: Path, cipher: Cipher | None = None
) -> VersionFiles:
    """Open a published version by name.

    Raises
    ------
    VersionNotFound, SignatureInvalid, ArtifactCorrupt
        The last also where the folder holds a version of another name or problem.
    """
    if not _NAME.fullmatch(version):
        raise VersionNotFound(f"{version!r} is not the name of a version.", version=version)
    if not store.version(version).is_dir():
        raise VersionNotFound(f"{store.problem} has no version {version}.", version=version)
    files = open_version(store.version(version), verify_key, cipher)
    found = (files.manifest.problem, files.manifest.version)
    if found != (store.problem, version):
        raise ArtifactCorrupt(
            f"The folder of {store.problem} {version} holds {' '.join(found)}.",
            path=str(files.folder),
        )
    return files


def list_versions(store: Store) -> list[str]:
    """Names of the published versions, the earliest as-of time first."""
    try:
        entries = list(store.versions.iterdir())
    except FileNotFoundError:
        return []
    return sorted(entry.name for entry in entries if entry.is_dir() and _NAME.fullmatch(entry.name))


def read_registry(store: Store) -> Registry:
    """What is live; generation 0 where nothing was ever promoted.

    Raises
    ------
    ArtifactCorrupt
        Where the file is not a registry of this problem that this code can read.
    """
    try:
        data = store.registry.read_bytes()
    except FileNotFoundError:
        return Registry(problem=store.problem, generation=0)
    require_format(data, REGISTRY_FORMAT, store.registry)
    registry = decode_record(data, Registry, store.registry)
    if registry.problem != store.problem:
        raise ArtifactCorrupt(
            f"The registry of {store.problem} is that of {registry.problem}.",
            path=str(store.registry),
        )
    return registry


def open_pointer(
    store: Store, pointer: Pointer, verify_key: Path, cipher: Cipher | None = None
) -> VersionFiles:
    """Open the version that an alias names, and no other that took its place.

    Raises
    ------
    VersionNotFound, SignatureInvalid, ArtifactCorrupt
    """
    files = open_stored(store, pointer.version, verify_key, cipher)
    if files.manifest_sha256 != pointer.manifest_sha256:
        raise ArtifactCorrupt(
            f"The manifest of {pointer.version} is not the one that was released.",
            path=str(files.folder / MANIFEST),
        )
    return files


def open_champion(store: Store, verify_key: Path, cipher: Cipher | None = None) -> VersionFiles:
    """Open the version in production.

    Raises
    ------
    NoChampion, VersionNotFound, SignatureInvalid, ArtifactCorrupt
    """
    production = read_registry(store).production
    if production is None:
        raise NoChampion(
            f"No model of {store.problem} was promoted yet.",
            "Run `make up`, or `bc-pipeline run`.",
        )
    return open_pointer(store, production, verify_key, cipher)
