"""From a dataset to the selected candidate: cross-validation and selection."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bc_pipeline.artifacts import training_log
from bc_pipeline.artifacts.files import locked
from bc_pipeline.errors import RowsErased
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings
from bc_pipeline.steps.data_steps import split_dataset
from bc_pipeline.workspace import Result, Run, Workspace, open_workspace

if TYPE_CHECKING:
    from bc_pipeline.problems.base import Candidate
    from bc_pipeline.training.results import CandidateResult


def candidates(problem: str) -> list[str]:
    """Names of the problem's candidates."""
    return [candidate.name for candidate in get_problem(problem).candidates]


def train(settings: Settings, run: Run, dataset: str, candidate: str) -> Result:
    """Cross-validate one candidate on the train rows.

    Raises
    ------
    RowsErased
        Also where rows were erased meanwhile: the result is removed.
    """
    workspace = open_workspace(settings, run.problem)
    began = time.monotonic()
    recipe = workspace.problem.candidate(candidate)
    result = cross_validate_candidate(workspace, dataset, recipe)
    _remove_if_erased(workspace, dataset)
    metrics = result.document.metrics
    summary = {
        "candidate": candidate,
        "recipe": recipe.recipe,
        "brier": metrics["brier"],
        "roc_auc": metrics["roc_auc"],
        "sensitivity": metrics["sensitivity"],
        "seconds": round(time.monotonic() - began, 2),
    }
    training_log.append_line(
        workspace.store, "candidate", run=run.run_id, dataset=dataset, **summary
    )
    return summary


def _remove_if_erased(workspace: Workspace, dataset: str) -> None:
    """Remove results of a dataset of which rows were erased while they were computed.

    An erasure has the lock of the datasets, and removes the results that it finds: either it finds
    those of now, or its note is found here.
    """
    from bc_pipeline.training.erasure import remove_results

    store = workspace.store
    with locked(store.lock(store.datasets)):
        try:
            split_dataset(workspace, dataset)
        except RowsErased:
            remove_results(store, {dataset})
            raise


def select(settings: Settings, run: Run, dataset: str) -> Result:
    """Choose the simplest candidate within noise of the best, and its threshold."""
    from bc_pipeline.training.results import load_result
    from bc_pipeline.training.select import select as choose

    workspace = open_workspace(settings, run.problem)
    # Raises RowsErased first: results of such a dataset are missing because they were removed.
    split_dataset(workspace, dataset)
    results = [
        load_result(workspace.store, workspace.problem, dataset, candidate)
        for candidate in workspace.problem.candidates
    ]
    chosen = choose(workspace.problem, results)
    return {
        "candidate": chosen.candidate,
        "recipe": chosen.recipe,
        "threshold": chosen.threshold,
        "why": chosen.why,
    }


def candidate_threshold(workspace: Workspace, dataset: str, candidate: Candidate) -> float:
    """The threshold of a candidate by its own cross-validation."""
    result = cross_validate_candidate(workspace, dataset, candidate)
    return result.threshold(workspace.problem.selection.sensitivity_target)


def cross_validate_candidate(
    workspace: Workspace, dataset: str, candidate: Candidate
) -> CandidateResult:
    """The cross-validation of a candidate on the train rows; the stored one where there is one."""
    from bc_pipeline.training.candidates import cross_validate

    return cross_validate(
        workspace.problem,
        candidate,
        split_dataset(workspace, dataset).train,
        store=workspace.store,
        dataset=dataset,
        threads=workspace.settings.threads,
    )
