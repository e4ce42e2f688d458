"""Whether there is anything to train on that was not trained on, and decided about, before."""

from __future__ import annotations

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.versions import open_verified
from bc_pipeline.code_version import code_version
from bc_pipeline.errors import NoChampion, VersionNotFound
from bc_pipeline.promotion.approvals import decision_text, objections
from bc_pipeline.settings import Settings
from bc_pipeline.workspace import Result, Run, Workspace, open_workspace


def find_news(settings: Settings, run: Run, dataset: str, anyway: bool = False) -> Result:
    """Compare a snapshot with what the champion, and versions that a person objected to, are of.

    The same rows, code and libraries make the same models again, so nothing needs to be trained;
    and a model that a person refused or rolled back must not return under another name. A
    backfill, and a run that moves no champion, leaves its verdict in any case.

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
    trains = anyway or run.looks_back or not run.live
    known = "" if trains else _known(workspace, dataset)
    if not known:
        return {"new": True, "reason": ""}
    return {
        "new": False,
        "reason": f"The rows as of {run.as_of} are dataset {dataset}, on which this code trained "
        f"{known}.{_held(workspace)}",
    }


def _known(workspace: Workspace, dataset: str) -> str:
    """The champion, or a version with an objection, of this dataset and code; empty without one."""
    try:
        champion = workspace.open_champion().manifest
    except NoChampion:
        pass
    else:
        if _is_made_of(champion, dataset):
            return f"the champion {champion.version}"
    store, key = workspace.store, workspace.settings.verify_key
    for version, line in objections(read_audit_log(store).trusted).items():
        try:
            manifest = open_verified(store, version, key).manifest
        except VersionNotFound:  # It was pruned.
            continue
        if _is_made_of(manifest, dataset):
            return f"{version}, which was {decision_text(line, version)}"
    return ""


def _is_made_of(manifest: Manifest, dataset: str) -> bool:
    """Whether a version was trained on this dataset, by this code with these libraries."""
    from bc_pipeline.training.challenger import library_versions

    made_of = (manifest.lineage.dataset, manifest.lineage.code_version, manifest.libraries)
    return made_of == (dataset, code_version(), library_versions())


def _held(workspace: Workspace) -> str:
    from bc_pipeline.data.batch_history import held_batches

    held = [batch.batch for batch, _ in held_batches(workspace.store)]
    return f" Held, and so not counted: {', '.join(held)}." if held else ""
