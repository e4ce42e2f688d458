"""From a landed file to a batch: accepted rows stored for good, the others named with reasons.

The landed file itself is never changed or moved, so a quarantined row can be read again
at its line. The record is written last: until then the batch does not exist, and a run
that was killed is simply done again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts.files import (
    locked,
    sha256_bytes,
    sha256_file,
    staged_file,
    write_atomic,
    write_record,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time
from bc_pipeline.data.batches import find_batch
from bc_pipeline.data.conflicts import History, conflicts
from bc_pipeline.data.records import PROBLEMS_SHOWN, BatchRecord, DefectRecord
from bc_pipeline.data.rows import LabelledRows, encode_rows, row_keys
from bc_pipeline.errors import DataError, Defect, FileRefused, RowsRejected
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import ID_COLUMN
from bc_pipeline.tables import open_table
from bc_pipeline.tables.writer import Kind, open_writer

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class IngestReport:
    """What came of a landing folder.

    Attributes
    ----------
    batches : tuple of BatchRecord
        Of every file that is a batch, in the order of arrival; known ones included.
    added : tuple of str
        The batches that this call made.
    refused : tuple of (str, dict)
        Name of each file that could not be taken, and its error as plain values.
    """

    batches: tuple[BatchRecord, ...]
    added: tuple[str, ...]
    refused: tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True, eq=False)
class _FileRows:
    """All rows of a file as read, with the defects that each row has by itself."""

    dialect: str
    sha256: str
    lines: list[int]
    rows: LabelledRows
    defects: dict[int, list[Defect]]


def ingest_file(
    path: Path, problem: Problem, store: Store, arrived_at: datetime | None = None
) -> BatchRecord:
    """Make a batch of a labelled file; the same bytes again give the stored record.

    Parameters
    ----------
    arrived_at : datetime, optional
        With its time zone; default: the file's modification time.

    Raises
    ------
    FileRefused, SchemaMismatch
        Where the file as a whole cannot be read.
    RowsRejected
        Where no row was accepted; the quarantine file tells why, and no batch is made.
    """
    record, _ = _ingest(path, problem, store, History(problem, store), arrived_at)
    return record


def ingest_landing(problem: Problem, store: Store) -> IngestReport:
    """Ingest every CSV and Parquet file of the landing folder, by arrival, then by name.

    A file that cannot be taken does not keep the others out. Names that start with a dot
    or end otherwise, such as ``.part``, belong to files still being written.
    """
    landed = [
        (path.stat().st_mtime, path.name, path)
        for path in (store.landing.iterdir() if store.landing.is_dir() else ())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    history = History(problem, store)
    batches: dict[str, BatchRecord] = {}
    added = []
    refused = []
    for _, name, path in sorted(landed):
        try:
            record, new = _ingest(path, problem, store, history, None)
        except DataError as error:
            refused.append((name, error.to_dict()))
            continue
        batches[record.batch] = record
        if new:
            added.append(record.batch)
    return IngestReport(tuple(batches.values()), tuple(added), tuple(refused))


def _ingest(
    path: Path,
    problem: Problem,
    store: Store,
    history: History,
    arrived_at: datetime | None,
) -> tuple[BatchRecord, bool]:
    """The batch of a file, and whether this call made it."""
    began = time.monotonic()
    sha256 = _digest(path)
    batch = sha256[:16]
    known = find_batch(store, batch)
    if known:
        return known, False
    arrival = arrived_at or datetime.fromtimestamp(path.stat().st_mtime, UTC)
    read = _read(path, problem)
    if read.sha256 != sha256:
        raise FileRefused(
            f"{path.name} changed while it was read.",
            "Land a file under a name that starts with a dot, and rename it when it is complete.",
            source=path.name,
        )
    with locked(store.batches_lock):
        known = find_batch(store, batch)
        if known:
            return known, False
        history.refresh()
        record = _store(path, sha256, arrival, read, problem, store, history)
    _log(record, time.monotonic() - began)
    return record, True


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise FileRefused(
            f"{path.name} cannot be read: {error.strerror}.", source=path.name
        ) from None


def _read(path: Path, problem: Problem) -> _FileRows:
    import numpy as np

    lines: list[int] = []
    ids: list[str] = []
    values = [np.empty((0, len(problem.schema.names)))]
    codes = [np.empty(0, dtype=np.int64)]
    defects: dict[int, list[Defect]] = {}
    with open_table(path, problem.schema, problem.labels) as reader:
        for block in reader:
            assert block.codes is not None, "labels were asked for"
            defects |= {len(lines) + row: found for row, found in block.defects.items()}
            lines += block.lines.tolist()
            ids += [name or "" for name in block.ids]
            # Adding zero turns -0.0 into 0.0: equal values have equal bytes.
            values.append(block.values + 0.0)
            codes.append(block.codes)
        every = np.concatenate(values)
        rows = LabelledRows(row_keys(every), tuple(ids), every, np.concatenate(codes))
        return _FileRows(reader.dialect, reader.sha256, lines, rows, defects)


def _store(
    path: Path,
    sha256: str,
    arrival: datetime,
    read: _FileRows,
    problem: Problem,
    store: Store,
    history: History,
) -> BatchRecord:
    """Part the rows into accepted and quarantined, and write both; the lock is held."""
    batch = sha256[:16]
    sound = [row for row in range(len(read.rows)) if row not in read.defects]
    between = conflicts(problem, read.rows.take(sound), history)
    defects = read.defects | {sound[position]: found for position, found in between.items()}
    placed = [
        (row, Defect(defect.reason, read.lines[row], defect.column))
        for row in sorted(defects)
        for defect in defects[row]
    ]
    accepted = read.rows.take(row for row in sound if row not in defects)

    quarantine = store.quarantined(batch)
    if placed:
        _write_quarantine(quarantine, read.rows.ids, placed)
    else:
        quarantine.unlink(missing_ok=True)
    if not len(accepted):
        raise RowsRejected(
            f"None of the {len(read.rows)} rows of {path.name} was accepted.",
            f"Each row's reasons are in {quarantine}.",
            read=len(read.rows),
        )
    rows = encode_rows(problem, accepted)
    counts = Counter(
        reason for found in defects.values() for reason in {defect.reason for defect in found}
    )
    record = BatchRecord(
        batch=batch,
        problem=problem.name,
        source=path.name,
        source_sha256=sha256,
        arrived_at=format_time(arrival),
        dialect=read.dialect,
        schema_fingerprint=problem.schema.fingerprint,
        read=len(read.rows),
        accepted=len(accepted),
        quarantined=len(defects),
        reasons=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        problems=tuple(DefectRecord.of(defect) for _, defect in placed[:PROBLEMS_SHOWN]),
        parquet_sha256=sha256_bytes(rows),
    )
    write_atomic(store.batch_rows(batch), rows)
    write_record(store.batch_record(batch), record)
    return record


def _write_quarantine(
    path: Path, ids: Sequence[str], defects: Sequence[tuple[int, Defect]]
) -> None:
    """One line for each defect, given with the position of its row."""
    columns: dict[str, Kind] = {"line": "integer", ID_COLUMN: "text"}
    columns |= {"column": "text", "reason": "text"}
    with staged_file(path) as staged, open_writer(staged, columns, "csv") as writer:
        writer.write(
            {
                "line": [defect.line for _, defect in defects],
                ID_COLUMN: [ids[row] or None for row, _ in defects],
                "column": [defect.column for _, defect in defects],
                "reason": [defect.reason for _, defect in defects],
            }
        )


def _log(record: BatchRecord, seconds: float) -> None:
    import structlog

    structlog.get_logger().info(
        "batch ingested",
        problem=record.problem,
        batch=record.batch,
        source=record.source,
        read=record.read,
        accepted=record.accepted,
        quarantined=record.quarantined,
        seconds=round(seconds, 3),
    )
