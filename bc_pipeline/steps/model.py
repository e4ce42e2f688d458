"""From a dataset to an exported challenger."""

from __future__ import annotations

import time
from importlib.metadata import version as library_version
from typing import TYPE_CHECKING, Any

from bc_pipeline.artifacts import training_log, versions
from bc_pipeline.artifacts.files import encode_record
from bc_pipeline.artifacts.manifest import Lineage, Manifest, Recipe
from bc_pipeline.code import code_version
from bc_pipeline.errors import ConfigError
from bc_pipeline.problems import get_problem
from bc_pipeline.steps.data import split_dataset
from bc_pipeline.steps.run import Result, Room, Run, enter

if TYPE_CHECKING:
    from bc_pipeline.data.split import Part, Split

# Libraries whose version can change a model or what it answers.
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "scipy")


def candidates(run: Run) -> list[str]:
    """Names of the problem's candidates."""
    return [candidate.name for candidate in get_problem(run.problem).candidates]


def train(run: Run, dataset: str, candidate: str) -> Result:
    """Cross-validate one candidate on the train rows."""
    from bc_pipeline.training.candidates import cross_validate

    room = enter(run.problem)
    began = time.monotonic()
    recipe = room.problem.candidate(candidate)
    part = split_dataset(room, dataset).train
    result = cross_validate(
        room.problem,
        recipe,
        part.keys,
        part.values,
        part.positive,
        store=room.store,
        dataset=dataset,
        threads=room.settings.threads,
    )
    metrics = result.record.metrics
    answer = {
        "candidate": candidate,
        "recipe": recipe.recipe,
        "brier": metrics["brier"],
        "roc_auc": metrics["roc_auc"],
        "sensitivity": metrics["sensitivity"],
        "seconds": round(time.monotonic() - began, 2),
    }
    training_log.append_line(room.store, "candidate", run=run.run_id, dataset=dataset, **answer)
    return answer


def select(run: Run, dataset: str) -> Result:
    """Choose the simplest candidate within noise of the best, and its threshold."""
    from bc_pipeline.training.candidates import load_result
    from bc_pipeline.training.select import select as choose

    room = enter(run.problem)
    results = [
        load_result(room.store, room.problem, dataset, candidate)
        for candidate in room.problem.candidates
    ]
    chosen = choose(room.problem, results)
    return {
        "candidate": chosen.candidate,
        "recipe": chosen.recipe,
        "threshold": chosen.threshold,
        "why": chosen.why,
    }


def export(run: Run, dataset: str, candidate: str, threshold: float, validation: str) -> Result:
    """Fit the chosen candidate on all train rows, export it, and check the export."""
    from bc_pipeline.artifacts import export as exporter
    from bc_pipeline.artifacts import work

    room = enter(run.problem)
    parts = split_dataset(room, dataset)
    batches = _batches(run, room, dataset)
    manifest = draft_manifest(run, room, dataset, batches, candidate, threshold, validation, parts)
    if room.store.version(manifest.version).exists():
        # The same run again: what it published stands, if it is still whole.
        versions.open_stored(room.store, manifest.version, room.settings.verify_key).verify_all()
        return {"version": manifest.version}
    estimator, graph = fit_and_export(room, candidate, parts.train)
    parity = exporter.check_parity(
        estimator, graph, parts.train.values, threshold, room.problem.selection.seed
    )
    files = {
        versions.MODEL: graph,
        versions.ESTIMATOR: exporter.dump_estimator(estimator),
        work.PARITY: encode_record(parity),
    }
    work.create(
        room.store,
        manifest,
        files,
        room.settings.signing_key,
        room.settings.artifact_cipher(),
    )
    return {"version": manifest.version}


def _batches(run: Run, room: Room, dataset: str) -> tuple[str, ...]:
    """The batches that a dataset comes from.

    Raises
    ------
    ConfigError
        Where the dataset is not that of the run's as-of time.
    """
    from bc_pipeline.data.snapshot import make_snapshot

    taken = make_snapshot(room.problem, room.store, run.as_of)
    if taken.record.dataset != dataset:
        # Its manifest would name batches and an as-of time that the rows do not come from.
        raise ConfigError(
            f"Dataset {dataset} is not what had arrived by {run.as_of}; that is "
            f"{taken.record.dataset}.",
            "Give the as-of time of the snapshot, or take another snapshot.",
            setting="as_of",
        )
    return taken.batches


def fit_and_export(room: Room, candidate: str, train: Part) -> tuple[Any, bytes]:
    """The fitted estimator and its ONNX graph."""
    from bc_pipeline.artifacts.export import export_onnx
    from bc_pipeline.training.fit import fit

    estimator = fit(
        room.problem.candidate(candidate),
        room.problem.selection.seed,
        train.values,
        train.positive,
        room.settings.threads,
    )
    return estimator, export_onnx(estimator, train.values.shape[1])


def draft_manifest(
    run: Run,
    room: Room,
    dataset: str,
    batches: tuple[str, ...],
    candidate: str,
    threshold: float,
    validation: str,
    parts: Split,
) -> Manifest:
    """Everything the manifest can say before the challenger is evaluated."""
    problem = room.problem
    chosen = problem.candidate(candidate)
    recipe = Recipe(
        chosen.name, chosen.title, chosen.recipe, dict(chosen.params), problem.selection.seed
    )
    code = code_version()
    low, high = parts.train.values.min(axis=0), parts.train.values.max(axis=0)
    return Manifest(
        problem=problem.name,
        version=versions.version_name(
            run.as_of,
            candidate,
            dataset=dataset,
            batches=list(batches),
            recipe=chosen.recipe,
            seed=problem.selection.seed,
            threshold=threshold,
            code=code,
            live=run.live,
        ),
        recipe=recipe,
        threshold=threshold,
        labels=problem.labels.to_dict(),
        schema=problem.schema.to_dict(),
        schema_fingerprint=problem.schema.fingerprint,
        training_range={
            name: (float(low[index]), float(high[index]))
            for index, name in enumerate(problem.schema.names)
        },
        metrics={},
        libraries={name: library_version(name) for name in _LIBRARIES},
        lineage=Lineage(
            dataset=dataset,
            batches=batches,
            as_of=run.as_of,
            split_salt=problem.split.salt,
            train_rows=len(parts.train),
            holdout_rows=len(parts.holdout),
            validation=validation,
            code_version=code,
            run_id=run.run_id,
            interval_start=run.interval_start,
            interval_end=run.interval_end,
            live=run.live,
            dag=run.dag,
        ),
        files={},
    )
