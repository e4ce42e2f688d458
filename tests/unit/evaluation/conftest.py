"""Rows whose truth is known, and models that answer on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from bc_pipeline.artifacts.evidence import Evaluation, Parity, Score
from bc_pipeline.evaluation.build import ModelUnderTest, Predict, evaluate
from bc_pipeline.evaluation.metrics import score
from bc_pipeline.problems.base import Problem


@dataclass(frozen=True)
class Rows:
    keys: tuple[str, ...]
    values: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, positive: np.ndarray, index: np.ndarray) -> Rows:
        return cls(tuple(f"row{i}" for i in index), values[index], positive[index])


@dataclass(frozen=True)
class Case:
    """A train and a holdout side, and what a logistic regression says of them."""

    problem: Problem
    train: Rows
    holdout: Rows
    oof: np.ndarray
    predict: Predict

    def model(self, version: str, **changes: object) -> ModelUnderTest:
        fields: dict[str, object] = {
            "recipe": "logistic-1",
            "title": "Logistic regression",
            "dataset": "d1",
            "as_of": "2026-11-15T00:00:00Z",
            "schema_fingerprint": self.problem.schema.fingerprint,
            "threshold": 0.3,
            "predict": self.predict,
        }
        return ModelUnderTest(version=version, **(fields | changes))

    def evaluate(
        self, challenger: ModelUnderTest, champion: ModelUnderTest | None = None, **changes: object
    ) -> Evaluation:
        arguments: dict[str, object] = {
            "champion_generation": 0 if champion is None else 1,
            "train": self.train,
            "holdout": self.holdout,
            "oof_probability": self.oof,
            "losses": {},
            "parity": Parity(rows=100, worst_difference=1e-16, flips=0),
        }
        return evaluate(
            self.problem, challenger=challenger, champion=champion, **(arguments | changes)
        )


@pytest.fixture(scope="session")
def case(wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> Case:
    from sklearn.model_selection import cross_val_predict

    values, codes = reference
    positive = wdbc.labels.to_positive(codes)
    order = np.random.default_rng(7).permutation(len(positive))
    holdout, train = (Rows.of(values, positive, part) for part in (order[:110], order[110:]))
    recipe = wdbc.candidate("logistic")
    build = recipe.build(recipe.params, 0)
    oof = cross_val_predict(build, train.values, train.positive, cv=5, method="predict_proba")
    fitted = build.fit(train.values, train.positive)
    return Case(wdbc, train, holdout, oof[:, 1], lambda rows: fitted.predict_proba(rows)[:, 1])


@pytest.fixture(scope="session")
def scored() -> Callable[..., Score]:
    """Score labels and probabilities that have no features."""

    def make(positive: object, probability: object, threshold: float = 0.5, **changes) -> Score:
        labels = np.asarray(positive, dtype=np.int8)
        arguments = {
            "keys": [f"row{i}" for i in range(len(labels))],
            "positive": labels,
            "probability": np.asarray(probability, dtype=np.float64),
            "threshold": threshold,
            "values": np.zeros((len(labels), 1)),
            "slices": (),
            "rounds": 200,
            "seed": 3,
            "level": 0.95,
            "decision_threshold_cost": 1 / 11,
        }
        return score(**(arguments | changes))

    return make
