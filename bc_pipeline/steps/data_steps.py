"""From landed files to an immutable dataset."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from bc_pipeline.artifacts.signed_document import require_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time, now
from bc_pipeline.errors import ConfigError, DataError, RowsErased, StoreError
from bc_pipeline.label_codes import read_label_codes
from bc_pipeline.settings import Settings
from bc_pipeline.steps.batch_steps import append_hold
from bc_pipeline.workspace import Result, Run, Workspace, open_first_workspace, open_workspace

if TYPE_CHECKING:
    from bc_pipeline.data.batch_history import BatchHistory
    from bc_pipeline.data.batches import BatchDocument
    from bc_pipeline.data.split import Split
    from bc_pipeline.problems.class_profile import ClassProfile


def land_demo(settings: Settings, problem: str) -> Result:
    """Land the demo feed: a base a year ago and weekly files up to now."""
    from bc_pipeline.data.demo_feed import write_demo_feed

    workspace = open_first_workspace(settings, problem)
    landed = write_demo_feed(workspace.problem, workspace.store, now())
    return {"files": len(landed), "landing": str(workspace.store.landing)}


def ingest_one(
    settings: Settings,
    problem: str,
    path: Path,
    arrived_at: datetime | None = None,
    label_codes: str | None = None,
) -> Result:
    """Turn one file into a batch; by default it arrived when it was last modified.

    The result's ``notes`` say where it differs from the request: a known file keeps its time, and
    stays withdrawn where it is. ``metadata`` has the number of rows with a value, for each column
    of metadata that has any.
    """
    from bc_pipeline.data.batches import read_batch
    from bc_pipeline.data.ingest import ingest_file
    from bc_pipeline.steps.hold_notes import hold_notes

    workspace = open_first_workspace(settings, problem)
    labels = workspace.problem.labels
    ingested = ingest_file(
        path,
        workspace.problem,
        workspace.store,
        arrived_at,
        label_codes=read_label_codes(label_codes, labels) if label_codes else None,
        profile=_class_profile(workspace),
        needs_check=workspace.problem.batch_check is not None,
    )
    batch = ingested.document
    held = [pair for pair in _check_batches(workspace) if pair[0].batch == batch.batch]
    return {
        "batch": batch.batch,
        "known": ingested.known,
        "read": batch.read,
        "accepted": batch.accepted,
        "quarantined": batch.quarantined,
        "held": bool(held),
        "repeats": batch.repeats,
        "near_repeats": batch.near_repeats,
        "arrived_at": batch.arrived_at,
        "dialect": batch.dialect,
        "label_codes": batch.label_codes,
        "metadata": {
            name: sum(map(bool, cells))
            for name, cells in read_batch(
                workspace.problem, workspace.store, batch
            ).metadata.items()
        },
        "notes": [
            *batch.notices,
            *hold_notes(held),
            *_notes_of_known(workspace.store, batch, arrived_at, known=ingested.known),
        ],
        "problems": msgspec.to_builtins(batch.problems),
    }


def _notes_of_known(
    store: Store, batch: BatchDocument, arrived_at: datetime | None, *, known: bool
) -> Iterator[str]:
    """Where the result differs from the request because of batches that there were before."""
    from bc_pipeline.data.batch_history import read_history

    if arrived_at is not None and format_time(arrived_at) != batch.arrived_at:
        why = "the file was ingested before" if known else "it contradicts a withdrawn batch"
        yield (
            f"The time {format_time(arrived_at)} was not taken: {why}, and its rows count from "
            f"{batch.arrived_at} on."
        )
    last = read_history(store, batch.batch).last_event()
    if last is not None and last.event == "withdrawn":
        yield (
            f"The batch was withdrawn at {last.at} and does not count; to change that: "
            f"`bc-pipeline batch restore {batch.batch}`."
        )


def _class_profile(workspace: Workspace) -> ClassProfile:
    """The class profile of the champion's dataset; without one, the problem's own."""
    from bc_pipeline.data.label_check import profile_of_dataset

    problem = workspace.problem
    try:
        dataset = workspace.open_champion().manifest.lineage.dataset
        return profile_of_dataset(problem, workspace.store, dataset)
    except (StoreError, ConfigError, DataError) as error:
        structlog.get_logger().info("class profile of the problem itself", reason=error.code)
        return problem.class_profile


def _check_batches(workspace: Workspace) -> list[tuple[BatchDocument, BatchHistory]]:
    """Check new batches against the champion's rows; returns all batches that wait for a decision.

    Raises
    ------
    AuditBroken
        Then the new batches do not count.
    """
    from bc_pipeline.data.batch_history import held_batches
    from bc_pipeline.data.batch_holds import check_new_batches
    from bc_pipeline.data.snapshot import load_dataset

    problem, store = workspace.problem, workspace.store
    if problem.batch_check is None:
        structlog.get_logger().info("no policy for checks of batches", problem=problem.name)
        return []
    try:
        dataset = workspace.open_champion().manifest.lineage.dataset
        champion = load_dataset(problem, store, dataset)
    except (StoreError, ConfigError, DataError):
        champion = None
    check_new_batches(
        problem, store, champion, lambda batch, check: append_hold(store, batch, check)
    )
    return held_batches(store)


def quarantine_file(settings: Settings, problem: str, batch: str) -> Path:
    """The table of a batch's quarantined rows, each with its reasons.

    Raises
    ------
    NotStored, SignatureInvalid
    """
    store = open_workspace(settings, problem).store
    path = store.quarantined(batch)
    require_signed(store, path)
    return path


def ingest(settings: Settings, run: Run) -> Result:
    """Turn every landed file into a batch; a refused file is reported and stops no other.

    New batches are checked by themselves, and those that differ from the champion's rows are held.

    The result's ``notes`` are for whoever triggered the run: batches that are held, files that were
    refused, and rows of batches that are new, or arrived in the run's interval, that were
    quarantined. ``times_kept``
    names known files whose time of modification is another than the one they arrived at.
    """
    from bc_pipeline.data.ingest import ingest_landing
    from bc_pipeline.steps.hold_notes import hold_notes
    from bc_pipeline.steps.ingest_notes import ingest_notes, newly_quarantined, refused_files

    workspace = open_first_workspace(settings, run.problem)
    report = ingest_landing(
        workspace.problem,
        workspace.store,
        _class_profile(workspace),
        needs_check=workspace.problem.batch_check is not None,
    )
    held = _check_batches(workspace)
    for name, error in report.refused:
        structlog.get_logger().warning("file_refused", file=name, error=error)
    refused, quarantined = refused_files(report), newly_quarantined(report, run)
    return {
        "batches": len(report.batches),
        "read": sum(batch.read for batch in report.batches),
        "accepted": sum(batch.accepted for batch in report.batches),
        "quarantined": sum(batch.quarantined for batch in report.batches),
        "repeats": sum(batch.repeats for batch in report.batches),
        "near_repeats": sum(batch.near_repeats for batch in report.batches),
        "refused": refused,
        "newly_quarantined": quarantined,
        "withdrawn": list(report.withdrawn),
        "held": [batch.batch for batch, _ in held],
        "times_kept": list(report.times_kept),
        "notes": hold_notes(held) + ingest_notes(refused, quarantined),
    }


def validate(settings: Settings, run: Run) -> Result:
    """Validate the rows as of the run's time with the problem's labelled suite."""
    from bc_pipeline.data.rows_as_of import rows_as_of
    from bc_pipeline.data.suites import build_frame
    from bc_pipeline.data.validation import validate as check

    workspace = open_workspace(settings, run.problem)
    rows = rows_as_of(workspace.problem, workspace.store, run.as_of)
    record = check(
        workspace.problem,
        "labelled",
        build_frame(workspace.problem, rows.values, rows.keys, rows.codes),
        store=workspace.store,
        expectations_dir=settings.expectations_dir,
    )
    return {"validation": record.validation, "rows": record.rows, "report": record.report}


def snapshot(settings: Settings, run: Run, validation: str) -> Result:
    """Freeze the rows as of the run's time into a dataset, and count its split."""
    from bc_pipeline.data.snapshot import make_snapshot

    workspace = open_workspace(settings, run.problem)
    frozen = make_snapshot(workspace.problem, workspace.store, run.as_of)
    document = frozen.document
    parts = split_dataset(workspace, document.dataset)
    return {
        "dataset": document.dataset,
        "batches": list(frozen.batches),
        "rows": document.rows,
        "train_rows": len(parts.train),
        "holdout_rows": len(parts.holdout),
        "near_repeats": frozen.near_repeats,
        "bridging": frozen.bridging,
        "validation": validation,
    }


def split_dataset(workspace: Workspace, dataset: str) -> Split:
    """Train and holdout rows of a stored dataset.

    Raises
    ------
    RowsErased
        Where rows of it were erased: it is no longer what its name says.
    """
    from bc_pipeline.data.snapshot import load_dataset
    from bc_pipeline.data.split import split

    problem = workspace.problem
    loaded = load_dataset(problem, workspace.store, dataset)
    if loaded.erasures:
        raise RowsErased(
            f"Rows of dataset {dataset} were erased (erasure {', '.join(loaded.erasures)}), so "
            "nothing can be trained or compared on it again.",
            "Make a new snapshot, of the rows that are left.",
            dataset=dataset,
            erasures=loaded.erasures,
        )
    return split(problem.split, loaded, problem.near_twins)
