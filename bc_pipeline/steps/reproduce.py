"""Make a version again from its inputs, and compare."""

from __future__ import annotations

from bc_pipeline.artifacts import versions
from bc_pipeline.code import code_version
from bc_pipeline.errors import NotReproducible
from bc_pipeline.steps.data import split_dataset
from bc_pipeline.steps.model import candidates, draft_manifest, fit_and_export, select, train
from bc_pipeline.steps.run import Result, Run, enter

BOUND = 1e-12


def verify_repro(problem: str, version: str | None) -> Result:
    """Make a version, or the champion, again: same choice, name and predictions.

    Raises
    ------
    NotReproducible
        Naming everything that came out differently.
    """
    import numpy as np

    from bc_pipeline.artifacts.predictors import OnnxPredictor, load_predictor, make_session

    room = enter(problem)
    key, cipher = room.settings.verify_key, room.settings.artifact_cipher()
    stored = (
        versions.open_stored(room.store, version, key, cipher)
        if version
        else versions.open_champion(room.store, key, cipher)
    )
    lineage, recipe = stored.manifest.lineage, stored.manifest.recipe
    if lineage.code_version != code_version():
        raise NotReproducible(
            f"{stored.manifest.version} was made by code {lineage.code_version}; "
            f"this is {code_version()}.",
            "Check that code out, and run this again.",
        )
    run = Run(
        problem,
        lineage.run_id,
        lineage.as_of,
        lineage.interval_start,
        lineage.interval_end,
        lineage.live,
    )
    # The dataset is immutable, and read by its digest: what has landed since, whenever it is
    # said to have arrived, is not the version's business.
    dataset = lineage.dataset
    for candidate in candidates(run):
        train(run, dataset, candidate)
    chosen = select(run, dataset)
    parts = split_dataset(room, dataset)
    manifest = draft_manifest(
        run,
        room,
        dataset,
        lineage.batches,
        chosen["candidate"],
        chosen["threshold"],
        lineage.validation,
        parts,
    )
    _, graph = fit_and_export(room, recipe.candidate, parts.train)
    rows = np.vstack([parts.train.values, parts.holdout.values])
    before = load_predictor(stored, room.settings.threads).positive(rows)
    after = OnnxPredictor(manifest, make_session(graph, room.settings.threads)).positive(rows)
    difference = float(np.abs(before - after).max())
    compared = {
        "recipe": (recipe.recipe, manifest.recipe.recipe),
        "threshold": (stored.manifest.threshold, manifest.threshold),
        "version": (stored.manifest.version, manifest.version),
    }
    differing = [f"{name} was {a}, is {b}" for name, (a, b) in compared.items() if a != b]
    if difference > BOUND:
        differing.append(f"probabilities differ by up to {difference:.3g}")
    if differing:
        raise NotReproducible(
            f"{stored.manifest.version} came out differently: {'; '.join(differing)}.",
            "Compare the manifest's library versions with the ones that are installed.",
        )
    return {"version": manifest.version, "rows": len(rows), "worst_difference": difference}
