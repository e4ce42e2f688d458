"""From a landed file to a batch: accepted rows are stored, rejected rows listed with reasons.

The landed file itself is never changed or moved, so a quarantined row can be read again
at its line. The document is written last: until then the batch does not exist, so a killed
run can be repeated.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from bc_pipeline.artifacts.declared_codes import read_declared_codes
from bc_pipeline.artifacts.files import (
    locked,
    sha256_bytes,
    sha256_file,
    staged_file,
    write_atomic,
)
from bc_pipeline.artifacts.signed_document import write_signature, write_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import checked_time, file_time_defect, format_time
from bc_pipeline.data.batch_history import is_withdrawn
from bc_pipeline.data.batches import BatchDocument, DefectDocument, find_batch, list_batches
from bc_pipeline.data.conflicts import AcceptedRows, arrival_after_withdrawals, find_conflicts
from bc_pipeline.data.erasure_notes import erased_lines
from bc_pipeline.data.label_check import check_labels, require_same_codes
from bc_pipeline.data.labelled_file import FileRows, read_labelled
from bc_pipeline.data.rows import encode_rows
from bc_pipeline.errors import DataError, Defect, FileRefused, RowsRejected
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.class_profile import ClassProfile
from bc_pipeline.tables.file_names import name_defect, printable_name
from bc_pipeline.tables.input_file import irregular
from bc_pipeline.tables.locations import TABLE_SUFFIXES
from bc_pipeline.tables.writer import DEFECT_COLUMNS, TableWriter, defect_columns

_DEFECTS_LISTED = 100
ERASED = "was erased at a person's request"


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
class TakenFile:
    """The batch of a file, and whether it was known before."""

    document: BatchDocument
    known: bool


def ingest_file(
    path: Path,
    problem: Problem,
    store: Store,
    arrived_at: datetime | None = None,
    label_codes: Mapping[str, str] | None = None,
) -> BatchDocument:
    """As `take_file`; the batch alone."""
    return take_file(path, problem, store, arrived_at, label_codes=label_codes).document


def take_file(
    path: Path,
    problem: Problem,
    store: Store,
    arrived_at: datetime | None = None,
    accepted: AcceptedRows | None = None,
    label_codes: Mapping[str, str] | None = None,
    profile: ClassProfile | None = None,
    *,
    needs_check: bool = False,
) -> TakenFile:
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
        return TakenFile(known, known=True)
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
            return TakenFile(known, known=True)
        accepted.refresh()
        codes = labels.codes if read.coded.any() else {}
        document = _store_batch(
            path.name, arrival, read, codes, problem, store, accepted, needs_check=needs_check
        )
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
        seconds=round(time.monotonic() - began, 3),
    )
    return TakenFile(document, known=False)


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
        As of `take_file`.
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
            taken = take_file(
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
        batch = taken.document.batch
        if not taken.known:
            new.add(batch)
        elif int(modified) != int(taken.document.arrival.timestamp()):
            times_kept.append(name)
        if is_withdrawn(store, batch):
            withdrawn.append(name)
        else:
            batches[batch] = taken.document
    return IngestReport(
        tuple(batches.values()),
        tuple(refused),
        frozenset(new),
        tuple(withdrawn),
        tuple(times_kept),
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


def _store_batch(
    source: str,
    arrival: datetime,
    read: FileRows,
    label_codes: dict[str, str],
    problem: Problem,
    store: Store,
    accepted: AcceptedRows,
    *,
    needs_check: bool,
) -> BatchDocument:
    """Divide the rows into accepted and quarantined, and store both; the caller has the lock."""
    batch = read.sha256[:16]
    read = _without_erased(store, read)
    valid = read.valid
    conflicts = find_conflicts(problem, read.rows.take(valid), accepted)
    defects = read.defects | {valid[row]: row_defects for row, row_defects in conflicts.items()}
    located = [
        (read.rows.ids[row] or None, Defect(defect.reason, read.lines[row], defect.column))
        for row in sorted(defects)
        for defect in defects[row]
    ]
    rows = read.rows.take(row for row in valid if row not in defects)

    quarantine = store.quarantined(batch)
    _write_quarantine(store, quarantine, located)
    if not len(rows):
        raise RowsRejected(
            f"None of the {len(read.rows)} rows of {source} was accepted.",
            f"Each row's reasons are in {quarantine}.",
            read=len(read.rows),
        )
    arrival = arrival_after_withdrawals(problem, store, rows, arrival)
    repeats, near_repeats = accepted.count_repeats(rows)
    data = encode_rows(problem, rows)
    document = BatchDocument(
        batch=batch,
        problem=problem.name,
        source=source,
        source_sha256=read.sha256,
        arrived_at=format_time(arrival),
        dialect=read.dialect,
        schema_fingerprint=problem.schema.fingerprint,
        read=len(read.rows),
        accepted=len(rows),
        quarantined=len(defects),
        reasons=_count_reasons(defects),
        problems=tuple(
            DefectDocument(defect.line, defect.column, defect.reason)
            for _, defect in located[:_DEFECTS_LISTED]
        ),
        parquet_sha256=sha256_bytes(data),
        repeats=repeats,
        near_repeats=near_repeats,
        label_codes=label_codes,
        number=1 + max((stored.number for stored in list_batches(store)), default=0),
        notices=read.notices,
        check="required" if needs_check else "",
    )
    write_atomic(store.batch_rows(batch), data)
    write_signed_document(store, store.batch_document(batch), document)
    accepted.add(batch, rows)
    return document


def _without_erased(store: Store, read: FileRows) -> FileRows:
    """The rows of a file, of which those that were erased have a defect and no id."""
    lines = erased_lines(store, read.sha256)
    erased = {row for row, line in enumerate(read.lines) if line in lines}
    if not erased:
        return read
    ids = tuple("" if row in erased else name for row, name in enumerate(read.rows.ids))
    return replace(
        read,
        rows=replace(read.rows, ids=ids),
        defects=read.defects | {row: [Defect(ERASED)] for row in erased},
    )


def _write_quarantine(
    store: Store, path: Path, defects: Sequence[tuple[str | None, Defect]]
) -> None:
    """Write and sign one line for each defect; without any, remove the file of an earlier try."""
    if not defects:
        path.unlink(missing_ok=True)
        return
    with staged_file(path) as staged:
        with TableWriter(staged, DEFECT_COLUMNS, "csv") as writer:
            writer.write(defect_columns(defects))
        write_signature(store, path, sha256_file(staged))


def _count_reasons(defects: Mapping[int, Sequence[Defect]]) -> dict[str, int]:
    """Number of rows with each reason, the most frequent first."""
    counts = Counter(
        reason
        for row_defects in defects.values()
        for reason in {defect.reason for defect in row_defects}
    )
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
