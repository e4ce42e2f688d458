"""Does what a backup holds belong together? Signatures, digests, audit chain, pointers.

A few small files are looked into; of all others the digests are known, and were checked
against the manifest when they were read.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.sealed import MANIFEST, SIGNATURE
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import list_versions, open_pointer, open_stored, read_registry
from bc_pipeline.backup.archive import Manifest
from bc_pipeline.backup.contents import folders_below
from bc_pipeline.errors import BackupInvalid, PipelineError
from bc_pipeline.promotion import audit

_NEEDED = re.compile(
    r"home/(models/[^/]+/registry\.json|models/[^/]+/versions/[^/]+/manifest\.(json|sig)"
    r"|audit/[^/]+\.jsonl|data/[^/]+/(batches|datasets)/[^/]+\.json|store\.json)"
)


def is_needed(name: str) -> bool:
    """Whether `require_sound` reads the file."""
    return _NEEDED.fullmatch(name) is not None


def require_sound(home: Path, manifest: Manifest, verify_key: Path) -> dict[str, int]:
    """Hold the files of a volume, in a folder of its own, against each other.

    Parameters
    ----------
    home : Path
        Where at least every file that `is_needed` stands; nobody else may use it.
    verify_key : Path
        The public key that versions are signed for.

    Returns
    -------
    dict of str to int
        How many versions, audit lines and tables of rows were checked.

    Raises
    ------
    BackupInvalid
        Naming everything that does not hold.
    """
    wrong: list[str] = []
    checked = {"versions": 0, "audit_lines": 0, "tables": 0}
    digests = {entry.name: entry.sha256 for entry in manifest.entries}
    problems = {path.stem for path in (home / "audit").glob("*.jsonl")}
    for problem in sorted(problems.union(folders_below(home / "models"))):
        store = Store(home, problem)
        try:
            checked["audit_lines"] += audit.verify(store).lines
            checked["versions"] += _versions(store, digests, verify_key, wrong)
        except PipelineError as error:
            wrong.append(error.message)
    checked["tables"] = _tables(home, digests, wrong)
    if wrong:
        raise BackupInvalid(
            "What is backed up does not hold together: " + " ".join(wrong),
            "Run `bc-pipeline doctor` on that volume; restore what is damaged from an earlier "
            "backup, or move it away. Signatures are held against BC_VERIFY_KEY_FILE, where it "
            "is set.",
        )
    return checked


def _versions(store: Store, digests: dict[str, str], verify_key: Path, wrong: list[str]) -> int:
    names = list_versions(store)
    for name in names:
        try:
            manifest = open_stored(store, name, verify_key).manifest
        except PipelineError as error:
            wrong.append(error.message)
            continue
        prefix = f"home/models/{store.problem}/versions/{name}/"
        found = {
            entry.removeprefix(prefix): digest
            for entry, digest in digests.items()
            if entry.startswith(prefix)
        }
        signed = {file: entry.sha256 for file, entry in manifest.files.items()}
        if {k: v for k, v in found.items() if k not in (MANIFEST, SIGNATURE)} != signed:
            wrong.append(f"Version {name} has not the files that were signed.")
    registry = read_registry(store)
    for pointer in (registry.production, registry.staging, registry.previous):
        if pointer is not None:
            try:
                open_pointer(store, pointer, verify_key)
            except PipelineError as error:
                wrong.append(error.message)
    return len(names)


class _Table(msgspec.Struct):
    parquet_sha256: str


def _tables(home: Path, digests: dict[str, str], wrong: list[str]) -> int:
    """Batches and datasets: a record, and the digest of the rows that it stands for."""
    records = [*home.glob("data/*/batches/*.json"), *home.glob("data/*/datasets/*.json")]
    for record in records:
        rows = record.with_suffix(".parquet").relative_to(home).as_posix()
        try:
            expected = msgspec.json.decode(record.read_bytes(), type=_Table).parquet_sha256
        except msgspec.MsgspecError:
            wrong.append(f"The record {record.name} is damaged.")
            continue
        if digests.get(f"home/{rows}") != expected:
            wrong.append(f"The rows of {rows} are not those of their record.")
    return len(records)
