"""Names, publishes, lists and opens the model versions on the volume."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.files import (
    make_directory,
    staged_directory,
    sync_directory,
)
from bc_pipeline.artifacts.manifest import Manifest, Pointer
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_bundle import VersionFiles, open_version, sign_bundle
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import parse_time
from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import (
    AuditBroken,
    ConfigError,
    NoChampion,
    VersionConflict,
    VersionNotFound,
)
from bc_pipeline.schema import json_digest

REGISTRY_LISTS = "See `bc-pipeline registry`."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def version_name(as_of: str, candidate: str, **inputs: Any) -> str:
    """Name of the version that a run with these inputs creates.

    Parameters
    ----------
    as_of : str
        The run's as-of time, ISO 8601, and not the clock, so that repeating a run gives the
        same name.
    candidate : str
    **inputs
        JSON values: dataset, recipe, params, seed, threshold, code version and everything
        else that the model depends on.

    Returns
    -------
    str
        Such as ``20261115T000000Z-logistic-3f2a9c1b7d``: sorts by as-of time.
    """
    moment = parse_time(as_of)
    digest = json_digest(inputs | {"as_of": moment.isoformat(), "candidate": candidate})
    return f"{moment:%Y%m%dT%H%M%SZ}-{candidate}-{digest[:10]}"


def publish(
    store: Store,
    draft: Manifest,
    folder: Path,
    signing_key: Path,
    contents: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Sign a challenger's files, publish them as an immutable version, and remove the folder.

    If the version exists already, the run is being repeated: the stored version is verified
    and stays, and `folder` is removed.

    Parameters
    ----------
    folder : Path
        Such as ``store.work / draft.version``.
    contents : mapping of str to bytes, optional
        The files of the version, as their reader verified them. Default: the folder's.

    Returns
    -------
    Manifest
        Of the published version.

    Raises
    ------
    VersionConflict
        Where a version of that name was made from other inputs.
    ArtifactCorrupt
        Where a file is none of a version's.
    ArtifactCorrupt, SignatureInvalid
        Where the existing version does not verify.
    """
    final = store.version(draft.version)
    make_directory(final.parent)
    if not final.exists():
        try:
            # A copy is signed: if that is interrupted, `folder` still has its own signature.
            with staged_directory(final) as staged:
                if contents is None:
                    shutil.copytree(folder, staged, dirs_exist_ok=True)
                for name, data in (contents or {}).items():
                    (staged / name).parent.mkdir(exist_ok=True)
                    (staged / name).write_bytes(data)
                manifest = sign_bundle(draft, staged, signing_key)
        except OSError:
            # Another process published first: its version is checked like one of an earlier run.
            if not final.exists():
                raise
        else:
            shutil.rmtree(folder, ignore_errors=True)
            return manifest
    stored = open_verified(store, draft.version, store.verify_key)
    _require_same_inputs(draft, stored.manifest)
    sync_directory(final.parent)
    shutil.rmtree(folder, ignore_errors=True)
    return stored.manifest


def _inputs(manifest: Manifest) -> dict[str, Any]:
    """The inputs of a version, without the run that made it."""
    lineage = manifest.lineage
    return {
        "problem": manifest.problem,
        "recipe": manifest.recipe,
        "threshold": manifest.threshold,
        "labels": manifest.labels,
        "schema": manifest.schema_fingerprint,
        "dataset": lineage.dataset,
        "batches": lineage.batches,
        "as of": lineage.as_of,
        "split": (lineage.split_salt, lineage.train_rows, lineage.holdout_rows),
        "code": lineage.code_version,
        "live": lineage.live,
    }


def _require_same_inputs(draft: Manifest, stored: Manifest) -> None:
    # As JSON, because a draft may have tuples where the stored manifest has lists.
    ours, theirs = (
        msgspec.json.decode(msgspec.json.encode(_inputs(manifest))) for manifest in (draft, stored)
    )
    differing = [name for name in ours if ours[name] != theirs[name]]
    if differing:
        raise VersionConflict(
            f"Version {draft.version} exists already, made with another {', '.join(differing)}.",
            "Include what differs in the inputs of its name.",
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
        ArtifactCorrupt also where the folder holds a version of another name or problem.
    """
    if not _NAME.fullmatch(version):
        raise VersionNotFound(
            f"{version!r} is not the name of a version.", REGISTRY_LISTS, version=version
        )
    if not store.version(version).is_dir():
        raise _not_found(store, version)
    files = open_version(store.version(version), verify_key, cipher)
    files.require_identity(store.problem, version, f"{store.problem} {version}")
    return files


def _not_found(store: Store, version: str) -> VersionNotFound:
    """The error about a version that is not there: pruned, or never published."""
    try:
        lines = read_audit_log(store).trusted
    except (AuditBroken, ConfigError):
        lines = []
    for line in reversed(lines):
        if line.event == "pruned" and version in line.details["versions"]:
            return VersionNotFound(
                f"{version} of {store.problem} was pruned on {line.at[:10]} by policy.",
                "The audit log has its verdict; a backup of before has its files.",
                version=version,
            )
    return VersionNotFound(
        f"{store.problem} has no version {version}.", REGISTRY_LISTS, version=version
    )


def open_verified(store: Store, version: str, verify_key: Path) -> VersionFiles:
    """Open a published version by name, and verify all of its files; errors as of `open_stored`."""
    files = open_stored(store, version, verify_key)
    files.verify_all()
    return files


def list_versions(store: Store) -> list[str]:
    """Names of the published versions, the earliest as-of time first."""
    try:
        entries = list(store.versions.iterdir())
    except FileNotFoundError:
        return []
    return sorted(entry.name for entry in entries if entry.is_dir() and _NAME.fullmatch(entry.name))


def open_pointer(
    store: Store, pointer: Pointer, verify_key: Path, cipher: Cipher | None = None
) -> VersionFiles:
    """Open the version that an alias names, if its manifest is the one that was released.

    Raises
    ------
    VersionNotFound, SignatureInvalid, ArtifactCorrupt
    """
    files = open_stored(store, pointer.version, verify_key, cipher)
    files.require_manifest(pointer.manifest_sha256)
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
