"""Batch scoring with the champion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import Defect, FileRefused, counted
from bc_pipeline.scoring.batch_plan import choose_engine, find_inputs, plan_batch
from bc_pipeline.scoring.scores_manifest import MANIFEST
from bc_pipeline.scoring.spark_submit import submit_to_spark
from bc_pipeline.settings import Settings
from bc_pipeline.workspace import Result, Run, Workspace, open_workspace

if TYPE_CHECKING:
    from bc_pipeline.scoring.table_scoring import Progress


def score(
    settings: Settings,
    problem: str,
    source: Path,
    target: Path,
    progress: Progress | None = None,
) -> Result:
    """Score one file with the champion.

    Raises
    ------
    NoChampion, FileRefused, SchemaMismatch, ExpectationsFailed
    """
    from bc_pipeline.scoring.local_batch import score_one

    workspace = open_workspace(settings, problem)
    report, validations = score_one(workspace, workspace.open_champion(), source, target, progress)
    return dict(msgspec.to_builtins(report)) | {"validations": validations}


def validation_report(settings: Settings, problem: str, validation: str) -> str:
    """Where the results of a validation are: its page of the Data Docs, or else a file."""
    store = Store.of(settings, problem)
    page = store.validation_page(validation)
    return str(page if page.exists() else store.validation_results(validation))


def batch_score(
    settings: Settings, run: Run, source: str | None = None, engine: str = "local"
) -> Result:
    """Score every file of the worklist that had arrived by the run's as-of time.

    The output folder is named by the interval, the champion and the inputs, and appears when
    it is complete; the same run again finds it and does nothing.

    Parameters
    ----------
    source : str, optional
        A file, folder or pattern to score instead of the worklist; for Spark also a URL.
    engine : {"auto", "local", "spark"}
        Whether this machine or a Spark cluster scores; ``auto`` goes by the inputs' size.

    Raises
    ------
    NoChampion
    NotStored
        Where there is nothing to score.
    FileRefused
        Naming the files that could not be scored, after the scores of the rest were written.
    ConfigError
        Where the engine is not available, or cannot read the source.
    TransientError
        Where a file changed while it was scored, or the cluster failed.
    """
    workspace = open_workspace(settings, run.problem)
    champion = workspace.open_champion()
    inputs = find_inputs(workspace, run, source)
    if not inputs.files:
        raise _refused(workspace, source, inputs.refused, "No file could be scored.")
    chosen = choose_engine(engine, inputs.files, settings)
    job = plan_batch(workspace, run, champion, inputs, chosen)
    if chosen == "spark":
        output, manifest = submit_to_spark(settings, job)
    else:
        from bc_pipeline.scoring.local_batch import score_locally

        output, manifest = score_locally(workspace, champion, job)
    output = output.removeprefix(f"{workspace.store.home}/")
    # Stored scores may come from an earlier run, which refused other files than this one.
    refused = {**manifest.refused, **inputs.refused}
    if refused:
        count = len(refused.keys() | manifest.inputs.keys())
        raise _refused(
            workspace,
            source,
            refused,
            f"{len(refused)} of {counted(count, 'file')} could not be scored; "
            f"the scores of the rest are in {output}.",
        )
    return {
        "output": output,
        "version": manifest.version,
        "read": manifest.read,
        "scored": manifest.scored,
        "rejected": manifest.rejected,
        "outside_training_range": manifest.outside_training_range,
    }


def _refused(
    workspace: Workspace, source: str | None, refused: Mapping[str, str], message: str
) -> FileRefused:
    return FileRefused(
        message,
        "Correct these files, or take them out of the worklist.",
        source=str(source or workspace.store.worklist),
        defects=tuple(Defect(f"{name}: {reason.rstrip('.')}") for name, reason in refused.items()),
    )


def newest_scores(settings: Settings, problem: str) -> str | None:
    """Folder of the batch scores that were written last; None where there are none."""
    manifests = open_workspace(settings, problem).store.scores.glob(f"*/*/{MANIFEST}")
    newest = max(manifests, key=lambda path: path.stat().st_mtime, default=None)
    return str(newest.parent) if newest else None
