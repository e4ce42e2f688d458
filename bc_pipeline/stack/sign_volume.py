"""Signs what an earlier release wrote without signatures, after checking it.

Each file is checked as far as the volume allows: rows against the digests in their documents, a
dataset against its name, the registry against the audit log and the signed versions. What does
not pass is not signed, and stays refused by every reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.files import D, decode_document, locked, read_verified, sha256_file
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import decode_registry
from bc_pipeline.artifacts.remembered_tip import FILE as TIP_FILE
from bc_pipeline.artifacts.remembered_tip import require_remembered
from bc_pipeline.artifacts.signed_document import find_signature, verify_signature, write_signature
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import open_pointer
from bc_pipeline.data.batches import BatchDocument
from bc_pipeline.data.rows import decode_rows, rows_digest
from bc_pipeline.data.snapshot import DatasetDocument
from bc_pipeline.data.suite_result import ValidationDocument
from bc_pipeline.errors import ArtifactCorrupt, ConfigError, PipelineError, StoreUnfit, counted
from bc_pipeline.problems import get_problem
from bc_pipeline.promotion.audit import cover_unsigned_lines
from bc_pipeline.promotion.audit_rules import require_agreement
from bc_pipeline.scoring.scores_manifest import MANIFEST, ScoresManifest
from bc_pipeline.settings import Settings
from bc_pipeline.training.results import PROBABILITY_FILE, RESULT_FILE, CandidateDocument

# Actor of the audit line that covers the unsigned ones.
ACTOR = "upgrade"
# Folders of the volume with one folder for each problem.
_AREAS = ("data", "models", "scores")


@dataclass(frozen=True)
class Refused:
    """A file that was not signed, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class SigningReport:
    """Files of a volume that got a signature, or would get one, and those that did not.

    Attributes
    ----------
    signed : tuple of str
        Paths on the volume.
    refused : tuple of Refused
    """

    signed: tuple[str, ...]
    refused: tuple[Refused, ...]


def sign_volume(settings: Settings, *, dry_run: bool = False) -> SigningReport:
    """Sign every file that needs a signature, has none, and passes its check.

    Raises
    ------
    StoreUnfit
        Where the volume was signed before; then nothing is signed.
    AuditBroken
    ConfigError
        Where the signing key is missing.
    """
    _require_never_signed(settings)
    signed: list[str] = []
    refused: list[Refused] = []
    for problem in _problems(settings.home):
        store = Store.of(settings, problem)
        for path in signed_files(store):
            name = store.relative(path)
            try:
                if _sign(store, path, dry_run=dry_run):
                    signed.append(name)
            except ConfigError:
                raise
            except PipelineError as error:
                refused.append(Refused(name, error.message))
    return SigningReport(tuple(signed), tuple(refused))


def sign_earlier_volume(settings: Settings) -> None:
    """Sign a volume of format 1, and its audit log as it is.

    Raises
    ------
    StoreUnfit
        Naming every file that did not pass; the others are signed.
    ConfigError
    """
    report = sign_volume(settings)
    if not report.refused:
        for problem in _problems(settings.home):
            store = Store.of(settings, problem)
            if store.audit.is_file():
                cover_unsigned_lines(store, actor=ACTOR)
    else:
        listed = "; ".join(f"{entry.file}: {entry.reason}" for entry in report.refused)
        raise StoreUnfit(
            f"{settings.home}: {counted(len(report.refused), 'file')} not signed: {listed}",
            "Restore them from a backup, or move them away (a registry: `bc-pipeline registry "
            "--repair`); then run `bc-pipeline upgrade` again.",
            found=1,
            known=2,
        )


def _require_never_signed(settings: Settings) -> None:
    """Refuse unsigned files where the audit log is signed: their signatures were removed.

    A log is signed last, so an upgrade that was killed does not leave such a volume.

    Raises
    ------
    StoreUnfit, AuditBroken
    """
    unsigned = []
    for problem in _problems(settings.home):
        store = Store.of(settings, problem)
        if problem == settings.service_problem:
            require_remembered(store, settings.records / TIP_FILE)
        if read_audit_log(store).signed_lines:
            unsigned += [
                store.relative(path)
                for path in signed_files(store)
                if find_signature(path, sha256_file(path)) is None
            ]
    if unsigned:
        raise StoreUnfit(
            f"The audit log of {settings.home} is signed, and "
            f"{counted(len(unsigned), 'file')} {'is' if len(unsigned) == 1 else 'are'} not: "
            f"{', '.join(unsigned)}. Nothing was signed.",
            "Restore them from a backup, or move them away: no upgrade signs what was changed "
            "after one.",
            found=1,
            known=2,
        )


def _problems(home: Path) -> list[str]:
    return sorted(
        {path.name for area in _AREAS for path in (home / area).glob("[!.]*") if path.is_dir()}
    )


def signed_files(store: Store) -> Iterator[Path]:
    yield from sorted(store.batches.glob("[!.]*.json"))
    yield from sorted(store.quarantine.glob("[!.]*.csv"))
    yield from sorted(store.datasets.glob("[!.]*.json"))
    yield from sorted(store.validations.glob("[!.]*.json"))
    yield from sorted(store.validation_details.glob("[!.]*.json"))
    yield from sorted(store.data_docs.rglob("[!.]*.html"))
    yield from sorted(store.candidates.glob(f"[!.]*/{RESULT_FILE}"))
    yield from sorted(store.scores.glob(f"[!.]*/[!.]*/{MANIFEST}"))
    if store.registry.is_file():
        yield store.registry


def _sign(store: Store, path: Path, *, dry_run: bool) -> bool:
    """Check and sign a file; False where it has a valid signature already."""
    if path == store.registry:
        with locked(store.registry_lock):
            return _sign_checked(store, path, dry_run=dry_run)
    return _sign_checked(store, path, dry_run=dry_run)


def _sign_checked(store: Store, path: Path, *, dry_run: bool) -> bool:
    sha256 = sha256_file(path)
    signature = find_signature(path, sha256)
    if signature is not None:
        verify_signature(store, path, sha256, signature)
        return False
    _check(store, path)
    if not dry_run:
        write_signature(store, path, sha256)
    return True


def _check(store: Store, path: Path) -> None:
    """Check a file as far as the volume allows.

    Raises
    ------
    ArtifactCorrupt, SignatureInvalid, VersionNotFound, AuditBroken
    """
    folder = path.parent
    if path == store.registry:
        _check_registry(store, decode_registry(store, path.read_bytes()))
    elif folder == store.batches:
        batch = _decode(path, BatchDocument)
        named = (batch.batch, batch.source_sha256[:16], batch.problem)
        _require(path, named == (path.stem, path.stem, store.problem))
        _require(path, batch.accepted + batch.quarantined == batch.read)
        read_verified(store.batch_rows(batch.batch), batch.parquet_sha256)
    elif folder == store.datasets:
        _check_dataset(store, path, _decode(path, DatasetDocument))
    elif folder == store.validations:
        validation = _decode(path, ValidationDocument)
        _require(path, (validation.validation, validation.problem) == (path.stem, store.problem))
    elif path.name == RESULT_FILE:
        result = _decode(path, CandidateDocument)
        _require(path, result.problem == store.problem)
        read_verified(folder / PROBABILITY_FILE, result.out_of_fold_sha256)
    elif path.name == MANIFEST:
        _check_scores(store, path, _decode(path, ScoresManifest))


def _check_registry(store: Store, registry: Registry) -> None:
    require_agreement(registry, read_audit_log(store).lines)
    for pointer in (registry.production, registry.staging, registry.previous):
        if pointer is not None:
            open_pointer(store, pointer, store.verify_key).verify_all()


def _check_dataset(store: Store, path: Path, dataset: DatasetDocument) -> None:
    named = (dataset.dataset, dataset.sha256[:16], dataset.problem)
    _require(path, named == (path.stem, path.stem, store.problem))
    rows = store.dataset_rows(dataset.dataset)
    data = read_verified(rows, dataset.parquet_sha256)
    decoded = decode_rows(get_problem(store.problem), data, rows)
    _require(path, rows_digest(dataset.schema_fingerprint, decoded) == dataset.sha256)


def _check_scores(store: Store, path: Path, scores: ScoresManifest) -> None:
    _require(path, scores.problem == store.problem)
    for report in scores.reports:
        # Scores of Spark have parts, each with a digest; those of one machine are one file.
        parts = report.get("parts")
        outputs = (
            [(part["name"], part["sha256"]) for part in parts]
            if isinstance(parts, list)
            else [(report["output"], report["output_sha256"])]
        )
        for name, sha256 in outputs:
            output = path.parent / str(name)
            _require(output, output.is_file() and sha256_file(output) == sha256)


def _decode(path: Path, kind: type[D]) -> D:
    return decode_document(path.read_bytes(), kind, path)


def _require(path: Path, holds: bool) -> None:
    if not holds:
        raise ArtifactCorrupt(
            f"{path.name} does not agree with its name or its digests.", path=str(path)
        )
