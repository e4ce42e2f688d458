"""Model versions: named by their inputs, sealed by a signature, immutable, read with care.

A reader checks the signature over the very bytes of the manifest that it parses, and the
digest over the very bytes of a file that it uses; no path is opened twice.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.files import (
    decode_record,
    encode_record,
    make_directory,
    publish_directory,
    sha256_bytes,
    sha256_file,
    sync_directory,
    write_atomic,
)
from bc_pipeline.artifacts.manifest import (
    MANIFEST_FORMAT,
    REGISTRY_FORMAT,
    FileEntry,
    Manifest,
    Pointer,
    Registry,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import parse_time
from bc_pipeline.errors import (
    ArtifactCorrupt,
    NoChampion,
    SignatureInvalid,
    VersionConflict,
    VersionNotFound,
)

# Names of the files in a version's folder.
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MODEL = "model.onnx"
ESTIMATOR = "model.joblib"
EVALUATION = "evaluation.json"
VERDICT = "verdict.json"
CARD = "card.md"
FIGURES = "figures"

_SEAL = frozenset({MANIFEST, SIGNATURE})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A manifest is a few kilobytes; a reader must not be made to load anything larger.
_MANIFEST_LIMIT = 4 * 1024 * 1024


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


# Writing -----------------------------------------------------------------------------------


def seal(draft: Manifest, folder: Path, signing_key: Path) -> Manifest:
    """Write manifest and signature for what now stands in a folder, where it stands.

    Parameters
    ----------
    draft : Manifest
        Its `files` are filled in.
    folder : Path
        Of files that belong to the version; sealing again after a change is fine.

    Returns
    -------
    Manifest
        As written.
    """
    (folder / SIGNATURE).unlink(missing_ok=True)
    for leftover in list(folder.rglob(".*")):
        # A write that was killed leaves its temporary file or folder.
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    manifest = msgspec.structs.replace(
        draft,
        files={
            name: FileEntry(sha256_file(folder / name), (folder / name).stat().st_size)
            for name in sorted(_names(folder) - _SEAL)
        },
    )
    data = encode_record(manifest)
    write_atomic(folder / MANIFEST, data)
    write_atomic(folder / SIGNATURE, signing.sign(data, signing_key))
    return manifest


def publish(store: Store, draft: Manifest, folder: Path, signing_key: Path) -> Manifest:
    """Seal a folder and make it the immutable version of its name.

    Where that version is there already, the same run is being made again: the stored one
    is verified and stands, and `folder` is removed.

    Parameters
    ----------
    folder : Path
        On the same file system as the versions, such as ``store.work / draft.version``.

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
        manifest = seal(draft, folder, signing_key)
        try:
            publish_directory(folder, final)
        except OSError:
            # Another process was faster: its version is checked like one of an earlier run.
            if not final.exists():
                raise
        else:
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


# Reading -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class VersionFiles:
    """A version whose manifest bears a valid signature; its files are checked when read.

    Attributes
    ----------
    folder : Path
    manifest : Manifest
    manifest_sha256 : str
        Of the manifest's bytes, as the registry's pointer carries it.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str

    def read(self, name: str) -> bytes:
        """The bytes of one file, read once and checked against the manifest.

        Raises
        ------
        ArtifactCorrupt
            Where the manifest does not list the file, or its bytes differ.
        """
        entry = self.manifest.files.get(name)
        path = self.folder / name
        if entry is None:
            raise ArtifactCorrupt(
                f"{name} is not a file of version {self.manifest.version}.", path=str(path)
            )
        try:
            with path.open("rb") as stream:
                data = stream.read(entry.size + 1)
        except OSError as error:
            raise ArtifactCorrupt(
                f"{name} of version {self.manifest.version} cannot be read: {error.strerror}.",
                path=str(path),
            ) from None
        if len(data) != entry.size or sha256_bytes(data) != entry.sha256:
            raise ArtifactCorrupt(
                f"{name} of version {self.manifest.version} is not the file that was signed.",
                path=str(path),
            )
        return data

    def verify_all(self) -> None:
        """Check every file, and that there is none besides.

        Raises
        ------
        ArtifactCorrupt
            Naming all the files that are wrong.
        """
        wrong = [
            f"{name} was added"
            for name in sorted(_names(self.folder) - _SEAL - set(self.manifest.files))
        ]
        for name in sorted(self.manifest.files):
            try:
                self.read(name)
            except ArtifactCorrupt:
                state = "differs" if (self.folder / name).exists() else "is missing"
                wrong.append(f"{name} {state}")
        if wrong:
            raise ArtifactCorrupt(
                f"Version {self.manifest.version} is damaged: {'; '.join(wrong)}.",
                "Restore its folder from a backup, or make the version anew.",
                path=str(self.folder),
            )


def open_version(folder: Path, verify_key: Path) -> VersionFiles:
    """Open a version's folder: signature first, then the manifest.

    Raises
    ------
    VersionNotFound
        Where there is no such folder.
    SignatureInvalid
        Where the manifest is not signed, or not by this key.
    ArtifactCorrupt
        Where there is no manifest, or none that this code can read.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise VersionNotFound(f"There is no version {folder.name}.", version=folder.name)
    data = _read_limited(path)
    try:
        signature = (folder / SIGNATURE).read_bytes()
    except FileNotFoundError:
        raise SignatureInvalid(f"Version {folder.name} is not signed.", path=str(path)) from None
    signing.verify(data, signature, verify_key, source=str(path))
    _require_format(data, MANIFEST_FORMAT, path)
    manifest = decode_record(data, Manifest, path)
    unsafe = [name for name in manifest.files if not _is_safe(name)]
    if unsafe:
        raise ArtifactCorrupt(
            f"The manifest of {folder.name} names files outside its folder: {unsafe}.",
            path=str(path),
        )
    return VersionFiles(folder, manifest, sha256_bytes(data))


def open_stored(store: Store, version: str, verify_key: Path) -> VersionFiles:
    """Open a published version by name.

    Raises
    ------
    VersionNotFound, SignatureInvalid, ArtifactCorrupt
        The last also where the folder holds a version of another name or problem.
    """
    if not _NAME.fullmatch(version):
        raise VersionNotFound(f"{version!r} is not the name of a version.", version=version)
    files = open_version(store.version(version), verify_key)
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
    _require_format(data, REGISTRY_FORMAT, store.registry)
    registry = decode_record(data, Registry, store.registry)
    if registry.problem != store.problem:
        raise ArtifactCorrupt(
            f"The registry of {store.problem} is that of {registry.problem}.",
            path=str(store.registry),
        )
    return registry


def open_pointer(store: Store, pointer: Pointer, verify_key: Path) -> VersionFiles:
    """Open the version that an alias names, and no other that took its place.

    Raises
    ------
    VersionNotFound, SignatureInvalid, ArtifactCorrupt
    """
    files = open_stored(store, pointer.version, verify_key)
    if files.manifest_sha256 != pointer.manifest_sha256:
        raise ArtifactCorrupt(
            f"The manifest of {pointer.version} is not the one that was released.",
            path=str(files.folder / MANIFEST),
        )
    return files


def open_champion(store: Store, verify_key: Path) -> VersionFiles:
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
    return open_pointer(store, production, verify_key)


# What both sides share -----------------------------------------------------------------------


def _names(folder: Path) -> set[str]:
    """Every file below a folder, as relative POSIX names; a link counts as a file."""
    return {
        entry.relative_to(folder).as_posix()
        for entry in folder.rglob("*")
        if entry.is_symlink() or not entry.is_dir()
    }


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        path.as_posix() == name
        and not path.is_absolute()
        and not {"..", "."} & set(path.parts)
        and "\\" not in name
        and "\0" not in name
        and name not in _SEAL
    )


def _read_limited(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MANIFEST_LIMIT + 1)
    except OSError as error:
        raise ArtifactCorrupt(
            f"{path.name} of {path.parent.name} cannot be read: {error.strerror}.", path=str(path)
        ) from None
    if len(data) > _MANIFEST_LIMIT:
        raise ArtifactCorrupt(f"{path.name} of {path.parent.name} is too large.", path=str(path))
    return data


class _Format(msgspec.Struct):
    format: int


def _require_format(data: bytes, known: int, path: Path) -> None:
    """Look at the format number alone, before the strict reader meets unknown fields."""
    try:
        found = msgspec.json.decode(data, type=_Format).format
    except msgspec.MsgspecError as error:
        raise ArtifactCorrupt(f"{path.name} cannot be read: {error}.", path=str(path)) from None
    if found != known:
        raise ArtifactCorrupt(
            f"{path.name} has format {found}; this code reads format {known}.",
            "Use the release of bc-pipeline that wrote it, or a later one.",
            path=str(path),
        )
