"""Reproduction of a version from its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.code_version import code_version
from bc_pipeline.errors import NotReproducible, RowsErased
from bc_pipeline.settings import Settings
from bc_pipeline.steps.data_steps import split_dataset
from bc_pipeline.steps.model_steps import candidate_threshold, candidates, select, train
from bc_pipeline.workspace import Result, Run, Workspace, open_workspace

if TYPE_CHECKING:
    from bc_pipeline.problems.base import Candidate

BOUND = 1e-12


def verify_repro(settings: Settings, problem: str, version: str | None) -> Result:
    """Make a version, or the champion, again: same choice, name and predictions.

    Raises
    ------
    NotReproducible
        Naming everything that differs.
    """
    workspace = open_workspace(settings, problem)
    key, cipher = settings.verify_key, settings.artifact_cipher()
    stored = (
        versions.open_stored(workspace.store, version, key, cipher)
        if version
        else versions.open_champion(workspace.store, key, cipher)
    )
    name, code = stored.manifest.version, stored.manifest.lineage.code_version
    if code != code_version():
        raise NotReproducible(
            f"{name} was made by code {code}; this is {code_version()}.",
            "Check that code out, and run this again.",
        )
    try:
        differences, rows, worst = _compare(workspace, stored)
    except RowsErased as error:
        raise NotReproducible(
            f"{name} cannot be made again: rows of its dataset {error.dataset} were erased at a "
            f"person's request (erasure {', '.join(error.erasures)}).",
            "Its signed files stay valid; `bc-pipeline erase --list` says which versions this is "
            "so of.",
        ) from None
    if differences:
        raise NotReproducible(
            f"{name} came out differently: {'; '.join(differences)}.",
            "Compare the manifest's library versions with the ones that are installed.",
        )
    return {"version": name, "rows": rows, "worst_difference": worst}


def _compare(workspace: Workspace, stored: VersionFiles) -> tuple[list[str], int, float]:
    """Train again; returns the differences, the rows compared and the worst difference."""
    import numpy as np

    from bc_pipeline.artifacts.predictors import Predictor, load_predictor, make_session
    from bc_pipeline.training.challenger import draft_manifest, fit_and_export

    settings, old = workspace.settings, stored.manifest
    lineage = old.lineage
    run = Run(
        workspace.problem.name,
        lineage.run_id,
        lineage.as_of,
        lineage.interval_start,
        lineage.interval_end,
        lineage.live,
    )
    # The dataset is read by its digest: later batches do not change it.
    for candidate in candidates(run.problem):
        train(settings, run, lineage.dataset, candidate)
    parts = split_dataset(workspace, lineage.dataset)
    recipe, threshold = _choose(workspace, run, stored)
    new = draft_manifest(
        workspace,
        run,
        parts,
        dataset=lineage.dataset,
        batches=lineage.batches,
        candidate=recipe,
        threshold=threshold,
        validation=lineage.validation,
        refit=lineage.refit,
    )
    fitted = workspace.problem.candidate(old.recipe.candidate, old.recipe.params)
    _, graph = fit_and_export(workspace, fitted, parts.train)
    rows = np.vstack([parts.train.values, parts.holdout.values])
    before = load_predictor(stored, settings.threads).positive(rows)
    after = Predictor(new, make_session(graph, settings.threads)).positive(rows)
    worst = float(np.abs(before - after).max())
    compared = {
        "recipe": (old.recipe.recipe, new.recipe.recipe),
        "threshold": (old.threshold, new.threshold),
        "version": (old.version, new.version),
    }
    differences = [f"{name} was {a}, is {b}" for name, (a, b) in compared.items() if a != b]
    if worst > BOUND:
        differences.append(f"probabilities differ by up to {worst:.3g}")
    return differences, len(rows), worst


def _choose(workspace: Workspace, run: Run, stored: VersionFiles) -> tuple[Candidate, float]:
    """The candidate of the version and its threshold: selected again, or the champion's recipe."""
    lineage, recipe = stored.manifest.lineage, stored.manifest.recipe
    if lineage.refit:
        former = workspace.problem.candidate(recipe.candidate, recipe.params)
        return former, candidate_threshold(workspace, lineage.dataset, former)
    chosen = select(workspace.settings, run, lineage.dataset)
    return workspace.problem.candidate(chosen["candidate"]), chosen["threshold"]
