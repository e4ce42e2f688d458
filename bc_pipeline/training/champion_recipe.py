"""The champion's recipe in today's code: whether it can be fitted again as what it was.

A recipe is a builder with its parameters. Two builders are the same where the digests of their
sources are equal. Where they are not, or where the champion's manifest is of a format without the
digest, the builder is fitted to the champion's train rows: one that gives the champion's
probabilities to 1e-9 is the same, whatever its source says. Other versions of libraries do not
make another recipe; they are named.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bc_pipeline.artifacts.evidence import RecipeIdentity
from bc_pipeline.artifacts.predictors import load_predictor
from bc_pipeline.data.snapshot import load_dataset
from bc_pipeline.data.split import split
from bc_pipeline.errors import DataError, ModelError, StoreError
from bc_pipeline.training.challenger import library_versions
from bc_pipeline.training.fit import fit, positive_probability
from bc_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from bc_pipeline.artifacts.manifest import Manifest
    from bc_pipeline.artifacts.signed_bundle import VersionFiles
    from bc_pipeline.problems.base import Candidate

AGREEMENT = 1e-9


def champion_candidate(workspace: Workspace, champion: VersionFiles) -> Candidate | None:
    """The candidate of the champion's name with its parameters; None where there is none."""
    recipe = champion.manifest.recipe
    for candidate in workspace.problem.candidates:
        if candidate.name == recipe.candidate:
            former = replace(candidate, title=recipe.title, params=recipe.params)
            return former if former.recipe == recipe.recipe else None
    return None


def identify_recipe(workspace: Workspace, champion: VersionFiles) -> RecipeIdentity:
    """Whether today's code builds what the champion's recipe was."""
    manifest = champion.manifest
    libraries = _changed_libraries(manifest)
    candidate = champion_candidate(workspace, champion)
    if candidate is None:
        note = f"This code has no candidate {manifest.recipe.candidate}."
        return RecipeIdentity(same=False, libraries=libraries, note=note)
    if manifest.recipe.source is not None and manifest.recipe.source == candidate.source:
        return RecipeIdentity(same=True, libraries=libraries)
    known = "is another" if manifest.recipe.source is not None else "is unknown for the champion"
    source = f"The source of {candidate.name}'s builder {known}"
    try:
        difference = _refit_difference(workspace, champion, candidate)
    except (DataError, ModelError, StoreError) as error:
        note = f"{source}, and its probabilities could not be compared: {error.message}"
        return RecipeIdentity(same=False, libraries=libraries, note=note)
    same = difference <= AGREEMENT
    result = f"agree to {AGREEMENT:g}" if same else f"differ by up to {difference:.2g}"
    return RecipeIdentity(
        same=same,
        difference=difference,
        libraries=libraries,
        note=f"{source}; fitted to the champion's rows, its probabilities {result}.",
    )


def _changed_libraries(manifest: Manifest) -> dict[str, tuple[str, str]]:
    return {
        name: (manifest.libraries[name], version)
        for name, version in library_versions().items()
        if manifest.libraries.get(name, version) != version
    }


def _refit_difference(workspace: Workspace, champion: VersionFiles, candidate: Candidate) -> float:
    """Largest difference of the probabilities on all rows of the champion's dataset."""
    import numpy as np

    problem, threads = workspace.problem, workspace.settings.threads
    manifest = champion.manifest
    dataset = load_dataset(problem, workspace.store, manifest.lineage.dataset)
    train = split(problem.split, dataset, problem.near_twins).train
    estimator = fit(candidate, manifest.recipe.seed, train.values, train.positive, threads)
    ours = positive_probability(candidate, estimator, dataset.values)
    theirs = load_predictor(champion, threads).positive(dataset.values)
    return float(np.abs(ours - theirs).max())
