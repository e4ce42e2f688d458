"""From a landed file to a batch: the file is read, its labels are checked, its rows are stored.

The landed file itself is never changed or moved, so a quarantined row can be read again
at its line.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from bc_pipeline.artifacts.declared_codes import read_declared_codes
from bc_pipeline.artifacts.files import locked, sha256_file
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import checked_time, file_time_defect
from bc_pipeline.data.batch_history import is_withdrawn
from bc_pipeline.data.batch_storage import store_batch
from bc_pipeline.data.batches import BatchDocument, find_batch
from bc_pipeline.data.conflicts import AcceptedRows
from bc_pipeline.data.label_check import check_labels, require_same_codes
from bc_pipeline.data.labelled_file import read_labelled
from bc_pipeline.errors import DataError, FileRefused
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.class_profile import ClassProfile
from bc_pipeline.tables.file_names import name_defect, printable_name
from bc_pipeline.tables.input_file import irregular
from bc_pipeline.tables.locations import TABLE_SUFFIXES


@dataclass(frozen=True)
class IngestReport:
    """The result of ingesting a landing folder.

    Attributes
    ----------
    batches : tuple of BatchDocument
        One for every ingested file, in the order of arrival, known ones included and withdrawn
        ones left out.
    refused : tuple of (str, dict)
        Name of each file that could not be ingested, and its error as JSON values.
    new : frozenset of str
        The batches that were not known before.
    withdrawn : tuple of str
        Names of the files whose batches are withdrawn.
    times_kept : tuple of str
        Names of the known files whose time of modification is not the one they arrived at.
    """

    batches: tuple[BatchDocument, ...]
    refused: tuple[tuple[str, dict[str, Any]], ...]
    new: frozenset[str] = frozenset()
    withdrawn: tuple[str, ...] = ()
    times_kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class IngestedFile:
    """The batch of a file, and whether it was known before."""

    document: BatchDocument
    known: bool


def ingest_file(
    path: Path,
    problem: Problem,
    store: Store,
    arrived_at: datetime | None = None,
    accepted: AcceptedRows | None = None,
    label_codes: Mapping[str, str] | None = None,
    profile: ClassProfile | None = None,
    *,
    needs_check: bool = False,
) -> IngestedFile:
    """Make a batch of a labelled file; the same bytes again give the stored batch.

    A stored batch keeps its time of arrival, and stays withdrawn where it is.

    Parameters
    ----------
    arrived_at : datetime, optional
        With its time zone; default: the file's modification time. Rows that contradict a
        withdrawn batch count from its withdrawal on.
    accepted : AcceptedRows, optional
        Of the batches so far, as far as the caller has read them.
    label_codes : mapping of str to str, optional
        What the file's label codes mean; default: what the file beside it declares, if any.
    profile : ClassProfile, optional
        What the labels are held against; default: the problem's own.
    needs_check : bool
        Whether a new batch counts only once it was checked (`batch_holds`).

    Raises
    ------
    ConfigError
        Where `arrived_at` is more than a day ahead of the clock, or before 1900.
    FileRefused, SchemaMismatch
        Where the file as a whole cannot be read, its name is no text, or, without `arrived_at`,
        its time of modification is more than a day ahead of the clock, or before 1900.
    RowsRejected
        Where no row was accepted; the quarantine file has the reasons, and no batch is made.
    LabelsRefused
        Where the labels contradict the class profile, or codes are not declared and agree with
        it too little; also where a known batch was made with other codes.
    """
    began = time.monotonic()
    accepted = accepted or AcceptedRows(problem, store)
    if defect := name_defect(path.name):
        raise _refused(path, defect)
    sha256 = _hash_file(path)
    batch = sha256[:16]
    declared = label_codes or read_declared_codes(path, problem.labels)
    if known := find_batch(store, batch):
        require_same_codes(known, declared, path.name)
        return IngestedFile(known, known=True)
    arrival = checked_time(arrived_at, "arrived_at") if arrived_at else _time_of_arrival(path)
    labels = problem.labels.with_codes(declared) if declared else problem.labels
    read = read_labelled(path, problem, labels)
    if read.sha256 != sha256:
        raise FileRefused(
            f"{path.name} changed while it was read.",
            "Land a file under a name that starts with a dot, and rename it when it is complete.",
            source=path.name,
        )
    check_labels(path.name, read, problem, labels, profile, declared=declared is not None)
    with locked(store.lock(store.batches)):
        if known := find_batch(store, batch):
            return IngestedFile(known, known=True)
        accepted.refresh()
        codes = labels.codes if read.coded.any() else {}
        document = store_batch(
            path.name, arrival, read, codes, problem, store, accepted, needs_check=needs_check
        )
    _log_ingested(document, time.monotonic() - began)
    return IngestedFile(document, known=False)


def ingest_landing(
    problem: Problem,
    store: Store,
    profile: ClassProfile | None = None,
    *,
    needs_check: bool = False,
) -> IngestReport:
    """Ingest every CSV and Parquet file of the landing folder, by arrival, then by name.

    A file that cannot be ingested does not stop the others. Names that start with a dot or
    have another suffix, such as ``.part``, belong to files still being written.

    Parameters
    ----------
    profile, needs_check
        As of `ingest_file`.
    """
    landed = []
    for path in store.landing.glob("[!.]*"):
        # A file may be removed meanwhile.
        with suppress(FileNotFoundError):
            if path.suffix.lower() in TABLE_SUFFIXES and not path.is_dir():
                status = path.stat() if path.exists() else path.lstat()
                landed.append((status.st_mtime, path.name, path))
    accepted = AcceptedRows(problem, store)
    batches: dict[str, BatchDocument] = {}
    refused, new, withdrawn, times_kept = [], set(), [], []
    for modified, name, path in sorted(landed):
        try:
            ingested = ingest_file(
                path,
                problem,
                store,
                accepted=accepted,
                profile=profile,
                needs_check=needs_check,
            )
        except DataError as error:
            refused.append((printable_name(name), error.to_dict()))
            continue
        batch = ingested.document.batch
        if not ingested.known:
            new.add(batch)
        elif int(modified) != int(ingested.document.arrival.timestamp()):
            times_kept.append(name)
        if is_withdrawn(store, batch):
            withdrawn.append(name)
        else:
            batches[batch] = ingested.document
    return IngestReport(
        tuple(batches.values()),
        tuple(refused),
        frozenset(new),
        tuple(withdrawn),
        tuple(times_kept),
    )


def _log_ingested(document: BatchDocument, seconds: float) -> None:
    structlog.get_logger().info(
        "batch ingested",
        problem=document.problem,
        batch=document.batch,
        source=document.source,
        read=document.read,
        accepted=document.accepted,
        quarantined=document.quarantined,
        repeats=document.repeats,
        near_repeats=document.near_repeats,
        seconds=round(seconds, 3),
    )


def _refused(path: Path, defect: str, remedy: str = "") -> FileRefused:
    name = printable_name(path.name)
    return FileRefused(f"{name} {defect}", remedy, source=name)


def _hash_file(path: Path) -> str:
    if reason := irregular(path):
        raise _refused(path, f"{reason}.")
    try:
        return sha256_file(path)
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}.") from None


def _time_of_arrival(path: Path) -> datetime:
    modified = path.stat().st_mtime
    if defect := file_time_defect(modified):
        raise _refused(
            path, defect, "Or name the time: `bc-pipeline ingest FILE --arrived-at TIME`."
        )
    return datetime.fromtimestamp(modified, UTC)
