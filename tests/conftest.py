"""Fixtures that every level shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import structlog
from hypothesis import settings as hypothesis_settings

from bc_pipeline.artifacts import signed_bundle, signing, versions
from bc_pipeline.artifacts.files import make_directory, sha256_file, write_document
from bc_pipeline.artifacts.manifest import Lineage, Manifest, Pointer, Recipe, Registry
from bc_pipeline.artifacts.registry import write_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import claim_store
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings
from tests.volumes import new_store

# 'make test-unit' chooses the second.
hypothesis_settings.register_profile("thorough", max_examples=200, deadline=None)
hypothesis_settings.register_profile("quick", max_examples=30, deadline=None)
hypothesis_settings.load_profile("thorough")


@pytest.fixture(autouse=True)
def log_configuration() -> Iterator[None]:
    """A command sends logs to a stream that ends with it: other tests must not inherit that."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the caller's settings or writes to the caller's volume."""
    import os

    for name in [name for name in os.environ if name.startswith("BC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BC_HOME", str(tmp_path / "home"))
    return


@pytest.fixture
def settings(clean_environment: None) -> Settings:
    return Settings()


@pytest.fixture(scope="session")
def wdbc() -> Problem:
    return get_problem("wdbc")


@pytest.fixture(scope="session")
def reference(wdbc: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Values, shape (569, 30), and scikit-learn's codes, shape (569,)."""
    loaded = wdbc.load_reference()
    return loaded.values, loaded.codes


@pytest.fixture
def store(settings: Settings) -> Store:
    """The store of a new volume with keys."""
    return new_store(settings.home)


@dataclass(frozen=True)
class Fitted:
    """A quickly fitted logistic regression: estimator, exported files, and its probabilities.

    `probability` is that of malignant for the reference rows, shape (569,).
    """

    regularisation: float
    estimator: Any
    graph: bytes
    probability: np.ndarray
    coefficients: bytes | None = None


@pytest.fixture(scope="session")
def fitted(wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> tuple[Fitted, ...]:
    """Three models of the same shape that answer differently."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from bc_pipeline.artifacts.export import export_onnx
    from bc_pipeline.artifacts.model_files import model_files

    values, codes = reference
    made = []
    for regularisation in (0.01, 0.1, 1.0):
        model = LogisticRegression(C=regularisation, max_iter=2000)
        estimator = make_pipeline(StandardScaler(), model).fit(
            values, wdbc.labels.to_positive(codes)
        )
        graph = export_onnx(estimator, values.shape[1])
        coefficients = model_files(estimator, graph)[signed_bundle.COEFFICIENTS]
        probability = estimator.predict_proba(values)[:, 1]
        made.append(Fitted(regularisation, estimator, graph, probability, coefficients))
    return tuple(made)


def pointer_to(version: str, manifest_sha256: str) -> Pointer:
    """What a registry says of a champion."""
    return Pointer(
        version=version,
        manifest_sha256=manifest_sha256,
        model="Logistic regression",
        recipe="logistic-0",
        f1=0.9,
        metrics={},
        threshold=0.4,
        dataset="d",
        as_of="2026-11-15T00:00:00Z",
        kind="first",
        promoted_at="2026-11-15T00:00:00Z",
    )


class Releases:
    """Makes signed versions and moves the pointer, as a promotion does."""

    def __init__(self, problem: Problem, settings: Settings, ranges: np.ndarray) -> None:
        self.problem = problem
        self.settings = settings
        self.store = Store.of(settings, problem.name)
        self.generation = 0
        self._ranges = ranges
        self._medians = np.median(problem.load_reference().values, axis=0).tolist()
        claim_store(settings.home)
        signing.make_keys(settings.signing_key, settings.verify_key)

    def draft(self, name: str) -> Manifest:
        names = self.problem.schema.names
        return Manifest(
            problem=self.problem.name,
            version=name,
            recipe=Recipe("logistic", "Logistic regression", "logistic-0", {}, 0),
            threshold=0.4,
            labels=self.problem.labels.to_dict(),
            schema=self.problem.schema.to_dict(),
            schema_fingerprint=self.problem.schema.fingerprint,
            training_range={
                feature: (float(low), float(high))
                for feature, (low, high) in zip(names, self._ranges, strict=True)
            },
            training_median=dict(zip(names, self._medians, strict=True)),
            metrics={"f1": 0.9},
            libraries={},
            lineage=Lineage(
                dataset="d",
                batches=("b",),
                as_of="2026-11-15T00:00:00Z",
                split_salt="s",
                train_rows=455,
                holdout_rows=114,
                validation="v",
                code_version="0",
                run_id="r",
                interval_start=None,
                interval_end=None,
                live=True,
            ),
            files={},
        )

    def passed_verdict(self, name: str) -> Verdict:
        """A verdict that lets a version be served."""
        return Verdict(
            problem=self.problem.name,
            kind="first",
            passed=True,
            better=False,
            challenger=name,
            champion=None,
            champion_generation=0,
            policy_digest="p",
            rows_digest="r",
            reasons=(),
            checks=(),
        )

    def challenger(
        self, name: str, model: Fitted, verdict: Verdict | None = None, **changes: Any
    ) -> Path:
        """A signed version that is not published; `changes` override its manifest's fields."""
        folder = make_directory(self.store.work / name)
        (folder / signed_bundle.MODEL).write_bytes(model.graph)
        if model.coefficients is not None:
            (folder / signed_bundle.COEFFICIENTS).write_bytes(model.coefficients)
        write_document(folder / signed_bundle.VERDICT, verdict or self.passed_verdict(name))
        draft = msgspec.structs.replace(self.draft(name), **changes)
        signed_bundle.sign_bundle(draft, folder, self.settings.signing_key)
        return folder

    def publish(
        self, name: str, model: Fitted, verdict: Verdict | None = None, **changes: Any
    ) -> Manifest:
        """Publish a version."""
        folder = self.challenger(name, model, verdict, **changes)
        draft = msgspec.structs.replace(self.draft(name), **changes)
        return versions.publish(self.store, draft, folder, self.settings.signing_key)

    def promote(self, name: str, manifest_sha256: str | None = None) -> None:
        """Point at a version, whatever its state."""
        manifest = self.store.version(name) / signed_bundle.MANIFEST
        self.generation += 1
        pointer = pointer_to(name, manifest_sha256 or sha256_file(manifest))
        write_registry(
            self.store,
            Registry(problem=self.problem.name, generation=self.generation, production=pointer),
        )


@pytest.fixture(scope="session")
def ranges(reference: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Lowest and highest value of each feature; shape (30, 2)."""
    values, _ = reference
    return np.column_stack([values.min(axis=0), values.max(axis=0)])


@pytest.fixture(scope="session")
def releases_in(wdbc: Problem, ranges: np.ndarray) -> Callable[[Path], Releases]:
    """Releases on the volume at a path, for fixtures that outlive a test."""
    return lambda home: Releases(wdbc, Settings(home=home), ranges)


@pytest.fixture
def releases(wdbc: Problem, settings: Settings, ranges: np.ndarray) -> Releases:
    return Releases(wdbc, settings, ranges)
