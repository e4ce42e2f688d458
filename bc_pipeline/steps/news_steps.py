"""Whether there is anything to train on that the champion was not trained on."""

from __future__ import annotations

from bc_pipeline.code_version import code_version
from bc_pipeline.errors import NoChampion
from bc_pipeline.settings import Settings
from bc_pipeline.workspace import Result, Run, Workspace, open_workspace


def find_news(settings: Settings, run: Run, dataset: str, anyway: bool = False) -> Result:
    """Compare a snapshot with what the champion was trained on.

    The same rows, code and libraries make the same models again, so nothing needs to be trained.
    A backfill, and a run that moves no champion, leaves its verdict in any case.

    Parameters
    ----------
    anyway : bool
        Whether to train in any case.

    Returns
    -------
    dict
        ``new``, and under ``reason`` a sentence, empty where there is something new.
    """
    workspace = open_workspace(settings, run.problem)
    champion = (
        None if anyway or run.looks_back or not run.live else _same_inputs(workspace, dataset)
    )
    if champion is None:
        return {"new": True, "reason": ""}
    return {
        "new": False,
        "reason": f"The rows as of {run.as_of} are dataset {dataset}, on which this code trained "
        f"the champion {champion}.{_held(workspace)}",
    }


def _same_inputs(workspace: Workspace, dataset: str) -> str | None:
    """The champion, where this dataset and this code made it."""
    from bc_pipeline.training.challenger import library_versions

    try:
        manifest = workspace.open_champion().manifest
    except NoChampion:
        return None
    made_of = (manifest.lineage.dataset, manifest.lineage.code_version, manifest.libraries)
    same = made_of == (dataset, code_version(), library_versions())
    return manifest.version if same else None


def _held(workspace: Workspace) -> str:
    from bc_pipeline.data.batch_history import held_batches

    held = [batch.batch for batch, _ in held_batches(workspace.store)]
    return f" Held, and so not counted: {', '.join(held)}." if held else ""
