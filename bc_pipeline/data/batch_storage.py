"""Stores the rows of a labelled file as a batch, and lists the rejected ones with reasons.

The document is written last: until then the batch does not exist, so a killed run can be repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from bc_pipeline.artifacts.files import sha256_bytes, sha256_file, staged_file, write_atomic
from bc_pipeline.artifacts.signed_document import write_signature, write_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time
from bc_pipeline.data.batches import BatchDocument, DefectDocument, list_batches
from bc_pipeline.data.conflicts import AcceptedRows, arrival_after_withdrawals, find_conflicts
from bc_pipeline.data.erasure_notes import erased_lines
from bc_pipeline.data.labelled_file import FileRows
from bc_pipeline.data.rows import LabelledRows, encode_rows
from bc_pipeline.errors import Defect, RowsRejected, counted, list_kinds
from bc_pipeline.problems.base import Problem
from bc_pipeline.tables.writer import DEFECT_COLUMNS, TableWriter, defect_columns

_DEFECTS_LISTED = 100
ERASED = "was erased at a person's request"


class DividedRows(NamedTuple):
    """The rows of a file.

    Attributes
    ----------
    accepted : LabelledRows
    rejected : dict of int to list of Defect
        By position in the file.
    located : list of (str or None, Defect)
        Each defect with the id and line of its row.
    """

    accepted: LabelledRows
    rejected: Mapping[int, list[Defect]]
    located: list[tuple[str | None, Defect]]


def store_batch(
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
    """Store the accepted rows as a batch, and the defects of the others in its quarantine file.

    The caller has the lock of the batches.

    Raises
    ------
    RowsRejected
        Where no row was accepted; the quarantine file has the reasons, and no batch is made.
    """
    batch = read.sha256[:16]
    rows, rejected, located = _divide(problem, _without_erased(store, read), accepted)
    quarantine = store.quarantined(batch)
    _write_quarantine(store, quarantine, located)
    if not len(rows):
        raise _none_accepted(source, len(read.rows), located, quarantine)
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
        quarantined=len(rejected),
        reasons=_count_reasons(rejected),
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


def _divide(problem: Problem, read: FileRows, accepted: AcceptedRows) -> DividedRows:
    """Divide the rows into accepted ones, and those with a defect or against a known row."""
    valid = read.valid
    conflicts = find_conflicts(problem, read.rows.take(valid), accepted)
    rejected = read.defects | {valid[row]: defects for row, defects in conflicts.items()}
    located = [
        (read.rows.ids[row] or None, Defect(defect.reason, read.lines[row], defect.column))
        for row in sorted(rejected)
        for defect in rejected[row]
    ]
    return DividedRows(
        read.rows.take(row for row in valid if row not in rejected), rejected, located
    )


def _none_accepted(
    source: str, read: int, located: Sequence[tuple[str | None, Defect]], quarantine: Path
) -> RowsRejected:
    """The error about a file of which every row has a defect."""
    kinds = list_kinds(Counter(defect.kind for _, defect in located))
    return RowsRejected(
        f"No row of {source} was accepted ({counted(read, 'row')}: {kinds}).",
        f"Each row's reasons are in {quarantine}.",
        read=read,
    )


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
