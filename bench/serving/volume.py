"""A volume with one model live, as a promotion leaves it, and the records to ask it about."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bc_pipeline.artifacts import signed_bundle, signing, versions
from bc_pipeline.artifacts.export import export_onnx
from bc_pipeline.artifacts.files import make_directory, sha256_file, write_document
from bc_pipeline.artifacts.manifest import Lineage, Manifest, Pointer, Recipe, Registry
from bc_pipeline.artifacts.model_files import model_files
from bc_pipeline.artifacts.registry import write_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import claim_store
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.auth.api_keys import import_key
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Candidate
from bc_pipeline.settings import Settings

PROBLEM = "wdbc"
KEY = "key-of-the-benchmark-" + "0" * 32
SEED = 20240229
THRESHOLD = 0.4
AS_OF = "2026-11-15T00:00:00Z"
# Limits are checked and counted, and never reached.
ENVIRONMENT = {
    "BC_RATE_LIMIT_KEY": "999999999/minute",
    "BC_RATE_LIMIT_ADDRESS": "999999999/minute",
    "BC_LOG_LEVEL": "INFO",
}


@dataclass(frozen=True)
class Volume:
    """Where a service finds its model.

    Attributes
    ----------
    home : Path
        Of the real service; the estimator for others stands beside it.
    """

    home: Path
    candidate: str
    version: str
    estimator: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that serves this volume."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("BC_")}
        return {**ours, **ENVIRONMENT, "BC_HOME": str(self.home)}


def make_volume(folder: Path, candidate: str) -> Volume:
    """Fit a candidate on the reference rows, sign it, publish it and point at it."""
    settings = Settings(home=folder / "home")
    recipe = next(one for one in get_problem(PROBLEM).candidates if one.name == candidate)
    estimator, ranges = _fit(recipe)
    claim_store(settings.home)
    signing.make_keys(settings.signing_key, settings.verify_key)
    import_key(settings.service_keys, "benchmark", ["predict"], KEY)
    store = Store.of(settings, PROBLEM)
    draft = _draft(recipe, ranges)
    made = make_directory(store.work / draft.version)
    for name, data in model_files(estimator, export_onnx(estimator, len(ranges))).items():
        (made / name).write_bytes(data)
    write_document(made / signed_bundle.VERDICT, _verdict(draft))
    signed_bundle.sign_bundle(draft, made, settings.signing_key)
    versions.publish(store, draft, made, settings.signing_key)
    pointer = _pointer(draft, sha256_file(store.version(draft.version) / signed_bundle.MANIFEST))
    write_registry(store, Registry(problem=PROBLEM, generation=1, production=pointer))
    dumped = store.version(draft.version) / signed_bundle.ESTIMATOR
    return Volume(settings.home, candidate, draft.version, dumped)


def bodies(number: int = 64) -> dict[str, list[bytes]]:
    """Bodies of ``POST /predict`` by form: rows of the reference data."""
    problem = get_problem(PROBLEM)
    rows = problem.load_reference().values
    chosen = rows[np.random.default_rng(SEED).choice(len(rows), number, replace=False)].tolist()
    names = problem.schema.names
    return {
        "named": [json.dumps(dict(zip(names, row, strict=True))).encode() for row in chosen],
        "list": [json.dumps({"features": row}).encode() for row in chosen],
    }


def _fit(candidate: Candidate) -> tuple[Any, np.ndarray]:
    problem = get_problem(PROBLEM)
    loaded = problem.load_reference()
    # With names, as whoever predicts on a DataFrame fits.
    frame = pd.DataFrame(loaded.values, columns=list(problem.schema.names))
    estimator = candidate.build(candidate.params, SEED)
    estimator.fit(frame, problem.labels.to_positive(loaded.codes))
    return estimator, np.column_stack([loaded.values.min(axis=0), loaded.values.max(axis=0)])


def _draft(candidate: Candidate, ranges: np.ndarray) -> Manifest:
    problem = get_problem(PROBLEM)
    return Manifest(
        problem=PROBLEM,
        version=f"20261115T000000Z-{candidate.name}-0123456789",
        recipe=Recipe(candidate.name, candidate.title, candidate.recipe, {}, SEED),
        threshold=THRESHOLD,
        labels=problem.labels.to_dict(),
        schema=problem.schema.to_dict(),
        schema_fingerprint=problem.schema.fingerprint,
        training_range={
            name: (float(low), float(high))
            for name, (low, high) in zip(problem.schema.names, ranges, strict=True)
        },
        metrics={},
        libraries={},
        lineage=Lineage(
            dataset="reference",
            batches=("reference",),
            as_of=AS_OF,
            split_salt="none",
            train_rows=len(problem.load_reference().codes),
            holdout_rows=0,
            validation="none",
            code_version="0",
            run_id="benchmark",
            interval_start=None,
            interval_end=None,
            live=True,
        ),
        files={},
    )


def _verdict(draft: Manifest) -> Verdict:
    return Verdict(
        problem=PROBLEM,
        kind="first",
        passed=True,
        better=False,
        challenger=draft.version,
        champion=None,
        champion_generation=0,
        policy_digest="none",
        rows_digest="none",
        reasons=(),
        checks=(),
    )


def _pointer(draft: Manifest, manifest_sha256: str) -> Pointer:
    return Pointer(
        version=draft.version,
        manifest_sha256=manifest_sha256,
        model=draft.recipe.title,
        recipe=draft.recipe.recipe,
        f1=0.0,
        metrics={},
        threshold=draft.threshold,
        dataset=draft.lineage.dataset,
        as_of=AS_OF,
        kind="first",
        promoted_at=AS_OF,
    )
