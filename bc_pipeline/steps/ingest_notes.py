"""Notes about files and rows that an ingest refused, for people who triggered its run."""

from __future__ import annotations

from typing import Any

from bc_pipeline.clock import parse_time
from bc_pipeline.data.ingest import IngestReport
from bc_pipeline.errors import counted
from bc_pipeline.workspace import Run

_LISTED = 10


def refused_files(report: IngestReport) -> list[dict[str, str]]:
    """Name, code of the error and reason of each refused file; no cell of it."""
    return [
        {"file": name, "code": error["code"], "reason": error["message"]}
        for name, error in report.refused
    ]


def newly_quarantined(report: IngestReport, run: Run) -> list[dict[str, Any]]:
    """Counts of the batches with quarantined rows that are new, or arrived in the run's interval.

    The interval counts because a task that is repeated knows the batches of its first try.
    """
    start = parse_time(run.interval_start) if run.interval_start else None
    return [
        {
            "batch": batch.batch,
            "source": batch.source,
            "read": batch.read,
            "quarantined": batch.quarantined,
            "reasons": batch.reasons,
        }
        for batch in report.batches
        if batch.quarantined
        and (batch.batch in report.new or (start is not None and batch.arrival >= start))
    ]


def ingest_notes(refused: list[dict[str, str]], quarantined: list[dict[str, Any]]) -> list[str]:
    """Sentences that name refused files and batches with quarantined rows, with the reasons."""
    notes = []
    if refused:
        named = [
            file["reason"]
            if file["file"] in file["reason"]
            else f"{file['file']}: {file['reason']}"
            for file in refused
        ]
        files = counted(len(refused), "landed file was", "landed files were")
        notes.append(f"{files} refused: {_listed(named)}")
    for batch in quarantined[:_LISTED]:
        rows, count = batch["quarantined"], counted(batch["read"], "row")
        was = "was" if rows == 1 else "were"
        reasons = [f"{reason} ({number})" for reason, number in batch["reasons"].items()]
        notes.append(
            f"{rows} of {count} of {batch['source']} {was} quarantined in batch "
            f"{batch['batch']}: {_listed(reasons)}"
        )
    if len(quarantined) > _LISTED:
        more = counted(len(quarantined) - _LISTED, "more batch has", "more batches have")
        notes.append(f"{more} quarantined rows.")
    return notes


def _listed(texts: list[str]) -> str:
    more = [f"and {len(texts) - _LISTED} more"] if len(texts) > _LISTED else []
    return "; ".join([text.rstrip(".") for text in texts[:_LISTED]] + more) + "."
