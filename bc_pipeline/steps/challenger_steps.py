"""From the selected candidate to exported challengers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.files import encode_document
from bc_pipeline.errors import ConfigError, NoChampion
from bc_pipeline.settings import Settings
from bc_pipeline.steps.data_steps import split_dataset
from bc_pipeline.steps.model_steps import candidate_threshold, cross_validate_candidate
from bc_pipeline.workspace import Result, Run, Workspace, open_workspace

if TYPE_CHECKING:
    from bc_pipeline.problems.base import Candidate


def challengers(
    settings: Settings,
    run: Run,
    dataset: str,
    candidate: str,
    threshold: float,
    batches: Sequence[str] | None = None,
) -> list[Result]:
    """The challengers of a run: the selected candidate, then the champion's recipe.

    The champion's recipe is cross-validated for its own threshold. It is not a second challenger
    where it was selected, or where this code does not build it any more. A candidate that new rows
    have shown to be better than the champion's recipe comes before both.

    Parameters
    ----------
    candidate : str
    threshold : float
        As `select` returned them.
    batches : sequence of str, optional
        As `snapshot` returned them with the dataset. Without them all batches are read again.

    Returns
    -------
    list of dict
        One or more, with the arguments ``candidate params threshold refit`` of `export`.

    Raises
    ------
    SplitChanged
        Where the champion was trained with another split.
    """
    workspace = open_workspace(settings, run.problem)
    selected = workspace.problem.candidate(candidate)
    selection = [_challenger(selected, threshold, refit=False)]
    former = _champion_recipe(workspace)
    if former is None:
        return selection
    if former.recipe != selected.recipe:
        selection.append(
            _challenger(former, candidate_threshold(workspace, dataset, former), refit=True)
        )
    names = batches or _batches(workspace, run, dataset)
    better = _shown_better(workspace, dataset, names, selected, former)
    return [
        *(
            _challenger(each, candidate_threshold(workspace, dataset, each), refit=False)
            for each in better
        ),
        *selection,
    ]


def _shown_better(
    workspace: Workspace,
    dataset: str,
    batches: Sequence[str],
    selected: Candidate,
    former: Candidate,
) -> list[Candidate]:
    """Candidates with evidence of new rows against the champion's recipe.

    Those that are no better in cross-validation are left out before any model is fitted.
    """
    from bc_pipeline.promotion.recipe_evidence import shown_better

    problem, train = workspace.problem, split_dataset(workspace, dataset).train
    if not problem.gate.sequential_alpha:
        return []

    def brier(candidate: Candidate) -> float:
        return cross_validate_candidate(workspace, dataset, candidate).document.metrics["brier"]

    bound = brier(former)
    others = [
        candidate
        for candidate in problem.candidates
        if candidate.recipe not in (selected.recipe, former.recipe) and brier(candidate) < bound
    ]
    return shown_better(workspace, batches, train, former, others) if others else []


def _challenger(candidate: Candidate, threshold: float, *, refit: bool) -> Result:
    return {
        "candidate": candidate.name,
        "params": dict(candidate.params),
        "threshold": threshold,
        "refit": refit,
    }


def _champion_recipe(workspace: Workspace) -> Candidate | None:
    """The candidate that is the champion's recipe; None where this code has none."""
    from bc_pipeline.data.split import require_same_split
    from bc_pipeline.training.champion_recipe import champion_candidate, identify_recipe

    try:
        champion = workspace.open_champion()
    except NoChampion:
        return None
    require_same_split(workspace.problem.split, champion.manifest)
    identity = identify_recipe(workspace, champion)
    if not identity.same:
        structlog.get_logger().warning("champion_recipe_not_refitted", reason=identity.note)
        return None
    return champion_candidate(workspace, champion)


def export(
    settings: Settings,
    run: Run,
    dataset: str,
    candidate: str,
    threshold: float,
    validation: str,
    batches: Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    refit: bool = False,
) -> Result:
    """Fit a challenger on all train rows, export it, and check the export.

    Parameters
    ----------
    candidate, params, threshold, refit
        As `challengers` returned them; without parameters those of the candidate.
    batches : sequence of str, optional
        As `snapshot` returned them with the dataset. Without them all batches are read again.
    """
    from bc_pipeline.artifacts import signed_bundle, work_folder
    from bc_pipeline.artifacts.model_files import model_files
    from bc_pipeline.artifacts.parity import check_parity
    from bc_pipeline.training.challenger import draft_manifest, fit_and_export

    workspace = open_workspace(settings, run.problem)
    store, parts = workspace.store, split_dataset(workspace, dataset)
    chosen = workspace.problem.candidate(candidate, params)
    manifest = draft_manifest(
        workspace,
        run,
        parts,
        dataset=dataset,
        batches=tuple(batches) if batches else _batches(workspace, run, dataset),
        candidate=chosen,
        threshold=threshold,
        validation=validation,
        refit=refit,
    )
    if store.version(manifest.version).exists():
        # Published by an earlier try of the same run: only make sure that it is complete.
        versions.open_verified(store, manifest.version, settings.verify_key)
        return {"version": manifest.version}
    estimator, graph = fit_and_export(workspace, chosen, parts.train)
    parity = check_parity(
        estimator, graph, parts.train.values, threshold, workspace.problem.selection.seed
    )
    files = model_files(estimator, graph) | {signed_bundle.PARITY: encode_document(parity)}
    work_folder.create(store, manifest, files, settings.signing_key, settings.artifact_cipher())
    return {"version": manifest.version}


def _batches(workspace: Workspace, run: Run, dataset: str) -> tuple[str, ...]:
    """The batches that a dataset comes from.

    Raises
    ------
    ConfigError
        Where the dataset is not that of the run's as-of time.
    """
    from bc_pipeline.data.snapshot import make_snapshot

    snapshot = make_snapshot(workspace.problem, workspace.store, run.as_of)
    if snapshot.document.dataset != dataset:
        # The manifest would name batches and an as-of time that the rows do not come from.
        raise ConfigError(
            f"Dataset {dataset} is not what had arrived by {run.as_of}; that is "
            f"{snapshot.document.dataset}.",
            "Give the as-of time of the snapshot, or take another snapshot.",
            setting="as_of",
        )
    return snapshot.batches
