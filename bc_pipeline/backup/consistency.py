"""Checks that the files of a backup belong together: signatures, digests, audit chain, pointers.

A few small files are parsed. Of all others the digest is known, and was compared with the manifest
when they were read.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.registry import read_registry, read_unsigned_registry
from bc_pipeline.artifacts.signed_bundle import MANIFEST, SIGNATURE
from bc_pipeline.artifacts.signed_document import read_signed, read_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import SIGNED_FORMAT
from bc_pipeline.artifacts.versions import list_versions, open_pointer, open_stored
from bc_pipeline.backup.archive import BackupManifest
from bc_pipeline.backup.contents import list_folders
from bc_pipeline.data.batch_history import BatchHistory
from bc_pipeline.data.erasure_notes import list_notes
from bc_pipeline.errors import ArtifactCorrupt, BackupInvalid, PipelineError, SignatureInvalid
from bc_pipeline.promotion import audit

_SIGNED = r"\.json(\.[0-9a-f]+\.sig)?"
_PARSED = re.compile(
    rf"home/(models/[^/]+/registry{_SIGNED}|models/[^/]+/versions/[^/]+/manifest\.(json|sig)"
    rf"|audit/[^/]+\.jsonl|data/[^/]+/(batches|batch_history|datasets|erasures)/[^/]+{_SIGNED}|store\.json)"
)


def is_parsed(name: str) -> bool:
    """Whether `require_consistent` reads the file of that name in a backup."""
    return _PARSED.fullmatch(name) is not None


def require_consistent(home: Path, manifest: BackupManifest, verify_key: Path) -> dict[str, int]:
    """Check the files of a volume, in a folder of its own, against each other.

    Parameters
    ----------
    home : Path
        Has at least every file that `is_parsed`; no other process may use it.
    verify_key : Path
        The public key for the signatures of versions.

    Returns
    -------
    dict of str to int
        How many versions, audit lines and tables of rows were checked.

    Raises
    ------
    BackupInvalid
        Naming every failed check.
    """
    failures: list[str] = []
    counts = {"versions": 0, "audit_lines": 0, "tables": 0}
    digests = {entry.name: entry.sha256 for entry in manifest.entries}
    has_signatures = manifest.store_format >= SIGNED_FORMAT
    problems = {path.stem for path in (home / "audit").glob("*.jsonl")}
    for problem in sorted(problems.union(list_folders(home / "models"))):
        store = Store(home, problem, verify_key_file=verify_key)
        try:
            counts["audit_lines"] += audit.verify(store, signed=has_signatures).lines
            counts["versions"] += _check_versions(
                store, digests, verify_key, failures, has_signatures=has_signatures
            )
        except PipelineError as error:
            failures.append(error.message)
    counts["tables"] = _check_tables(
        home, digests, verify_key, failures, has_signatures=has_signatures
    )
    _check_histories(home, verify_key, failures)
    if failures:
        raise BackupInvalid(
            "The files of the backup do not belong together: " + " ".join(failures),
            "Run `bc-pipeline doctor` on that volume; restore what is damaged from an earlier "
            "backup, or move it away. Signatures are checked with BC_VERIFY_KEY_FILE, where it "
            "is set.",
        )
    return counts


def _check_versions(
    store: Store,
    digests: dict[str, str],
    verify_key: Path,
    failures: list[str],
    *,
    has_signatures: bool,
) -> int:
    names = list_versions(store)
    for name in names:
        try:
            manifest = open_stored(store, name, verify_key).manifest
        except PipelineError as error:
            failures.append(error.message)
            continue
        prefix = f"home/models/{store.problem}/versions/{name}/"
        files = {
            entry.removeprefix(prefix): digest
            for entry, digest in digests.items()
            if entry.startswith(prefix)
        }
        signed = {file: entry.sha256 for file, entry in manifest.files.items()}
        if {k: v for k, v in files.items() if k not in (MANIFEST, SIGNATURE)} != signed:
            failures.append(f"The files of version {name} are not those in its signed manifest.")
    registry = read_registry(store) if has_signatures else read_unsigned_registry(store)
    for pointer in (registry.production, registry.staging, registry.previous):
        if pointer is not None:
            try:
                open_pointer(store, pointer, verify_key)
            except PipelineError as error:
                failures.append(error.message)
    return len(names)


def _check_histories(home: Path, verify_key: Path, failures: list[str]) -> None:
    """Require that every decision about a batch is signed, and that the batch is there."""
    for path in sorted(home.glob("data/*/batch_history/*.json")):
        try:
            store = Store(home, path.parents[1].name, verify_key_file=verify_key)
            history = read_signed_document(store, path, BatchHistory)
        except PipelineError as error:
            failures.append(error.message)
            continue
        if history.batch != path.stem or not (path.parents[1] / "batches" / path.name).is_file():
            failures.append(f"The batch that {path.name} is about is missing.")


class _TableDocument(msgspec.Struct):
    parquet_sha256: str


def _check_tables(
    home: Path,
    digests: dict[str, str],
    verify_key: Path,
    failures: list[str],
    *,
    has_signatures: bool,
) -> int:
    """Compare batches and datasets with the digests in their JSON documents, which are signed."""
    documents = [*home.glob("data/*/batches/*.json"), *home.glob("data/*/datasets/*.json")]
    for document in documents:
        rows = document.with_suffix(".parquet").relative_to(home).as_posix()
        try:
            store = Store(home, document.parents[1].name, verify_key_file=verify_key)
            data = read_signed(store, document) if has_signatures else document.read_bytes()
            expected = msgspec.json.decode(data, type=_TableDocument)
            valid = _valid_digests(store, rows, expected.parquet_sha256)
        except (SignatureInvalid, ArtifactCorrupt) as error:
            failures.append(error.message)
            continue
        except (msgspec.MsgspecError, UnicodeDecodeError):
            failures.append(f"{document.name} is damaged.")
            continue
        if digests.get(f"home/{rows}") not in valid:
            failures.append(f"The rows of {rows} do not have the digest in {document.name}.")
    return len(documents)


def _valid_digests(store: Store, rows: str, sha256: str) -> set[str]:
    """Digests that a file of rows may have: with an unfinished erasure, also that of before."""
    valid = {sha256}
    for note in list_notes(store):
        if erased := note.find(rows):
            valid = {erased.sha256} if note.state == "finished" else valid | {erased.sha256}
    return valid
