"""The evaluation of an exported challenger, beside the champion and the anchor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bc_pipeline.artifacts import signed_bundle, training_log, versions, work_folder
from bc_pipeline.artifacts.evidence import (
    AnchorComparison,
    Evaluation,
    Parity,
    Separations,
    SequentialEvidence,
)
from bc_pipeline.artifacts.files import encode_document
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.errors import NoChampion, StoreError
from bc_pipeline.problems.base import Candidate
from bc_pipeline.promotion.anchor import read_anchor
from bc_pipeline.settings import Settings
from bc_pipeline.steps.data_steps import split_dataset
from bc_pipeline.workspace import Result, Run, Workspace, open_workspace

if TYPE_CHECKING:
    from bc_pipeline.data.split import Split, SplitSide
    from bc_pipeline.training.results import CandidateResult


def evaluate(settings: Settings, run: Run, version: str) -> Result:
    """Score the challenger, and the champion, on the same holdout rows."""
    workspace = open_workspace(settings, run.problem)
    if workspace.store.version(version).exists():
        stored = versions.open_stored(workspace.store, version, settings.verify_key)
        evaluation = stored.read_document(signed_bundle.EVALUATION, Evaluation)
    else:
        evaluation = _evaluate(workspace, _challenger(workspace, version))
        training_log.append_line(
            workspace.store,
            "evaluation",
            run=run.run_id,
            version=version,
            champion=evaluation.champion.version if evaluation.champion else None,
            **evaluation.challenger.holdout.metrics,
        )
    metrics = evaluation.challenger.holdout.metrics
    return {
        "version": version,
        "champion": evaluation.champion.version if evaluation.champion else None,
        **{name: metrics[name] for name in ("f1", "sensitivity", "brier", "roc_auc")},
    }


def _challenger(workspace: Workspace, version: str) -> VersionFiles:
    settings = workspace.settings
    return work_folder.open_challenger(
        workspace.store, version, settings.verify_key, settings.artifact_cipher()
    )


def _champion(workspace: Workspace) -> VersionFiles | None:
    try:
        return workspace.open_champion()
    except NoChampion:
        return None


def _evaluate(workspace: Workspace, challenger: VersionFiles) -> Evaluation:
    """Add evaluation, figures and card to the challenger's files."""
    from bc_pipeline.artifacts.predictors import load_predictor
    from bc_pipeline.evaluation.report import make_report

    problem = workspace.problem
    parts = split_dataset(workspace, challenger.manifest.lineage.dataset)
    # The generation is read before the champion: if another release comes between the two
    # reads, the verdict names an older generation and the promotion refuses it.
    generation = read_registry(workspace.store).generation
    evaluation = measure(workspace, challenger, _champion(workspace), generation, parts)
    predictor = load_predictor(challenger, workspace.settings.threads)
    files = {signed_bundle.EVALUATION: encode_document(evaluation)} | make_report(
        problem,
        predictor,
        evaluation,
        parts.holdout,
        coefficients=None if challenger.encrypted else predictor.coefficients,
    )
    work_folder.write_evidence(workspace.store, challenger, files)
    return evaluation


def measure(
    workspace: Workspace,
    challenger: VersionFiles,
    champion: VersionFiles | None,
    generation: int,
    parts: Split,
) -> Evaluation:
    """The evaluation, from signed models, rows and results of cross-validation."""
    from bc_pipeline.artifacts.predictors import load_predictor
    from bc_pipeline.data.split import require_same_split
    from bc_pipeline.evaluation.evaluate import evaluate as score_and_compare
    from bc_pipeline.training.champion_recipe import champion_candidate, identify_recipe

    problem, threads = workspace.problem, workspace.settings.threads
    if champion is not None:
        require_same_split(problem.split, champion.manifest)
    identity = identify_recipe(workspace, champion) if champion else None
    former = champion_candidate(workspace, champion) if champion else None
    results = _cross_validation(workspace, challenger, former, parts.train)
    new = load_predictor(challenger, threads)
    result = results[new.manifest.recipe.recipe]
    evaluation = score_and_compare(
        problem,
        challenger=new,
        champion=load_predictor(champion, threads) if champion else None,
        champion_generation=generation,
        train=parts.train,
        holdout=parts.holdout,
        oof_probability=result.pooled,
        nested_call=result.nested_call,
        losses={recipe: result.losses for recipe, result in results.items()},
        parity=challenger.read_document(signed_bundle.PARITY, Parity),
        recipe_identity=identity,
        sequential=(
            _new_rows(workspace, challenger, former, parts.train)
            if former is not None and identity is not None and identity.same
            else None
        ),
    )
    separations = _measure_separations(workspace, challenger, parts)
    evaluation = msgspec.structs.replace(evaluation, separations=separations)
    if champion is None or not problem.gate.anchor_margins:
        return evaluation
    compared = _compare_with_anchor(workspace, evaluation, parts)
    return msgspec.structs.replace(evaluation, anchor=compared)


def _new_rows(
    workspace: Workspace, challenger: VersionFiles, former: Candidate, train: SplitSide
) -> SequentialEvidence | None:
    """Evidence of new rows for the challenger's recipe, if it is another than the champion's."""
    from bc_pipeline.promotion.recipe_evidence import compare_on_new_rows

    recipe, problem = challenger.manifest.recipe, workspace.problem
    if recipe.recipe == former.recipe or not problem.gate.sequential_alpha:
        return None
    own = problem.candidate(recipe.candidate, recipe.params)
    batches = challenger.manifest.lineage.batches
    (evidence,) = compare_on_new_rows(workspace, batches, train, former, [own])
    return evidence


def _measure_separations(
    workspace: Workspace, challenger: VersionFiles, parts: Split
) -> Separations | None:
    """How well single features separate the classes in the dataset, if the policy asks for it."""
    import numpy as np

    from bc_pipeline.data.arrival_order import first_batches
    from bc_pipeline.evaluation.separation import measure_separations

    problem, lineage = workspace.problem, challenger.manifest.lineage
    if problem.gate.leak is None:
        return None
    keys = parts.train.keys + parts.holdout.keys
    return measure_separations(
        problem,
        problem.gate.leak,
        np.concatenate([parts.train.values, parts.holdout.values]),
        np.concatenate([parts.train.positive, parts.holdout.positive]).astype(bool),
        *first_batches(problem, workspace.store, lineage.batches, keys),
    )


def _compare_with_anchor(
    workspace: Workspace, challenger: Evaluation, parts: Split
) -> AnchorComparison | None:
    """The comparison with the anchor, or the reason why there is none."""
    from bc_pipeline.artifacts.predictors import load_predictor
    from bc_pipeline.data.split import require_same_split
    from bc_pipeline.evaluation.anchor import compare_with_anchor

    problem, settings = workspace.problem, workspace.settings
    anchor = read_anchor(workspace.store)
    if anchor is None:
        return None
    try:
        files = anchor.open(workspace.store, settings.artifact_cipher())
        require_same_split(problem.split, files.manifest)
        return compare_with_anchor(
            problem,
            load_predictor(files, settings.threads),
            files.read_document(signed_bundle.EVALUATION, Evaluation),
            challenger,
            parts.train,
            parts.holdout,
        )
    except StoreError as error:
        return AnchorComparison(
            version=anchor.version, note=error.message, required=anchor.reason is not None
        )


def _cross_validation(
    workspace: Workspace, challenger: VersionFiles, former: Candidate | None, train: SplitSide
) -> dict[str, CandidateResult]:
    """Results on the challenger's dataset, by recipe: every candidate's, and the champion's.

    Parameters
    ----------
    former : Candidate or None
        The champion's recipe, which may be no candidate any more: without its result a candidate
        whose parameters were changed could not show that it is better.
    """
    from bc_pipeline.training.candidates import cross_validate
    from bc_pipeline.training.results import load_result

    problem, dataset = workspace.problem, challenger.manifest.lineage.dataset
    results = {
        candidate.recipe: load_result(workspace.store, problem, dataset, candidate)
        for candidate in problem.candidates
    }
    # If another champion was released since the export, a refit challenger has the recipe of
    # neither a candidate nor the champion.
    recipe = challenger.manifest.recipe
    own = problem.candidate(recipe.candidate, recipe.params)
    for candidate in filter(None, (former, own)):
        if candidate.recipe not in results:
            results[candidate.recipe] = cross_validate(
                problem,
                candidate,
                train,
                store=workspace.store,
                dataset=dataset,
                threads=workspace.settings.threads,
            )
    return results
