"""A challenger: the chosen candidate fitted on all train rows, with its draft manifest."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version as library_version
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_pipeline.artifacts.export import export_onnx
from bc_pipeline.artifacts.manifest import Lineage, Manifest, Recipe
from bc_pipeline.artifacts.versions import version_name
from bc_pipeline.code_version import code_version
from bc_pipeline.training.fit import fit
from bc_pipeline.workspace import Run, Workspace

if TYPE_CHECKING:
    from bc_pipeline.data.split import Split, SplitSide
    from bc_pipeline.problems.base import Candidate

_LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "scipy")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change a model or its answers."""
    return {name: library_version(name) for name in _LIBRARIES}


def fit_and_export(
    workspace: Workspace, candidate: Candidate, train: SplitSide
) -> tuple[Any, bytes]:
    """The fitted estimator and its ONNX graph."""
    estimator = fit(
        candidate,
        workspace.problem.selection.seed,
        train.values,
        train.positive,
        workspace.settings.threads,
    )
    return estimator, export_onnx(estimator, train.values.shape[1])


def draft_manifest(
    workspace: Workspace,
    run: Run,
    parts: Split,
    *,
    dataset: str,
    batches: tuple[str, ...],
    candidate: Candidate,
    threshold: float,
    validation: str,
    refit: bool = False,
) -> Manifest:
    """The manifest before the challenger is evaluated: without metrics and files.

    Parameters
    ----------
    refit : bool
        Whether the candidate is the champion's recipe, and not the one that was selected.
    """
    problem, seed = workspace.problem, workspace.problem.selection.seed
    version = version_name(
        run.as_of,
        candidate.name,
        dataset=dataset,
        batches=list(batches),
        recipe=candidate.recipe,
        seed=seed,
        threshold=threshold,
        code=code_version(),
        live=run.live,
    )
    names, values = problem.schema.names, parts.train.values
    extremes = zip(values.min(axis=0).tolist(), values.max(axis=0).tolist(), strict=True)
    return Manifest(
        problem=problem.name,
        version=version,
        recipe=_recipe(candidate, seed),
        threshold=threshold,
        labels=problem.labels.to_dict(),
        schema=problem.schema.to_dict(),
        schema_fingerprint=problem.schema.fingerprint,
        training_range=dict(zip(names, extremes, strict=True)),
        training_median=dict(zip(names, np.median(values, axis=0).tolist(), strict=True)),
        metrics={},
        libraries=library_versions(),
        lineage=_lineage(workspace, run, parts, dataset, batches, validation, refit),
        files={},
    )


def _recipe(candidate: Candidate, seed: int) -> Recipe:
    return Recipe(
        candidate.name,
        candidate.title,
        candidate.recipe,
        dict(candidate.params),
        seed,
        candidate.source,
    )


def _lineage(
    workspace: Workspace,
    run: Run,
    parts: Split,
    dataset: str,
    batches: tuple[str, ...],
    validation: str,
    refit: bool,
) -> Lineage:
    return Lineage(
        dataset=dataset,
        batches=batches,
        as_of=run.as_of,
        split_salt=workspace.problem.split.salt,
        train_rows=len(parts.train),
        holdout_rows=len(parts.holdout),
        validation=validation,
        code_version=code_version(),
        run_id=run.run_id,
        interval_start=run.interval_start,
        interval_end=run.interval_end,
        live=run.live,
        dag=run.dag,
        split=asdict(workspace.problem.split),
        refit=refit,
    )
