"""From landed files to an immutable dataset."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from bc_pipeline.clock import now
from bc_pipeline.steps.run import Result, Room, Run, enter, enter_first

if TYPE_CHECKING:
    from bc_pipeline.data.records import BatchRecord
    from bc_pipeline.data.split import Split


def land_demo(problem: str) -> Result:
    """Land the demo feed: a base a year ago and weekly files up to now."""
    from bc_pipeline.data.feed import write_demo_feed

    room = enter_first(problem)
    landed = write_demo_feed(room.problem, room.store, now())
    return {"files": len(landed), "landing": str(room.store.landing)}


def ingest_one(problem: str, path: Path, arrived_at: datetime | None = None) -> BatchRecord:
    """Turn one file into a batch; it arrived when it was last modified, unless told."""
    from bc_pipeline.data.ingest import ingest_file

    room = enter_first(problem)
    return ingest_file(path, room.problem, room.store, arrived_at)


def quarantine_file(problem: str, batch: str) -> Path:
    """Where a batch's quarantined rows are listed, each with its reasons."""
    return enter(problem).store.quarantined(batch)


def ingest(run: Run) -> Result:
    """Turn every landed file into a batch; a refused file is reported and stops no other."""
    from bc_pipeline.data.ingest import ingest_landing

    room = enter_first(run.problem)
    report = ingest_landing(room.problem, room.store)
    for name, error in report.refused:
        structlog.get_logger().warning("file_refused", file=name, error=error)
    return {
        "batches": len(report.batches),
        "read": sum(batch.read for batch in report.batches),
        "accepted": sum(batch.accepted for batch in report.batches),
        "quarantined": sum(batch.quarantined for batch in report.batches),
        "refused": [name for name, _ in report.refused],
    }


def validate(run: Run) -> Result:
    """Hold the rows as of the run's time against the problem's labelled suite."""
    from bc_pipeline.data.snapshot import rows_as_of
    from bc_pipeline.data.validation import validate as check

    room = enter(run.problem)
    rows = rows_as_of(room.problem, room.store, run.as_of)
    record = check(
        room.problem,
        "labelled",
        values=rows.values,
        keys=rows.keys,
        codes=rows.codes,
        store=room.store,
        expectations_dir=room.settings.expectations_dir,
    )
    return {"validation": record.validation, "rows": record.rows, "report": record.report}


def snapshot(run: Run, validation: str) -> Result:
    """Freeze the rows as of the run's time into a dataset, and count its split."""
    from bc_pipeline.data.snapshot import make_snapshot

    room = enter(run.problem)
    taken = make_snapshot(room.problem, room.store, run.as_of)
    parts = split_dataset(room, taken.record.dataset)
    return {
        "dataset": taken.record.dataset,
        "rows": taken.record.rows,
        "train_rows": len(parts.train),
        "holdout_rows": len(parts.holdout),
        "validation": validation,
    }


def split_dataset(room: Room, dataset: str) -> Split:
    """Train and holdout rows of a stored dataset."""
    from bc_pipeline.data.snapshot import load_dataset
    from bc_pipeline.data.split import split

    return split(room.problem, load_dataset(room.problem, room.store, dataset))
