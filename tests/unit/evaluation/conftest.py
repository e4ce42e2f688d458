"""Rows whose truth is known, and models that answer on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from bc_pipeline.artifacts.evidence import Evaluation, Parity, Score
from bc_pipeline.data.split import SplitSide
from bc_pipeline.evaluation.evaluate import evaluate
from bc_pipeline.evaluation.scores import score_rows
from bc_pipeline.evaluation.slices import SliceBounds
from bc_pipeline.problems.base import Problem
from tests.fake_predictor import FakePredictor, Predict


def side_of(values: np.ndarray, positive: np.ndarray, index: np.ndarray) -> SplitSide:
    return SplitSide(tuple(f"row{i}" for i in index), values[index], positive[index])


@dataclass(frozen=True)
class Case:
    """A train and a holdout side, and what a logistic regression says of them."""

    problem: Problem
    train: SplitSide
    holdout: SplitSide
    oof: np.ndarray
    predict: Predict

    def model(self, version: str, **changes: object) -> FakePredictor:
        fields: dict[str, object] = {
            "recipe": "logistic-1",
            "title": "Logistic regression",
            "dataset": "d1",
            "as_of": "2026-11-15T00:00:00Z",
            "schema_fingerprint": self.problem.schema.fingerprint,
            "threshold": 0.3,
            "positive": self.predict,
        }
        return FakePredictor(version=version, **(fields | changes))

    def evaluate(
        self, challenger: FakePredictor, champion: FakePredictor | None = None, **changes: object
    ) -> Evaluation:
        arguments: dict[str, object] = {
            "champion_generation": 0 if champion is None else 1,
            "train": self.train,
            "holdout": self.holdout,
            "oof_probability": self.oof,
            "nested_call": self.oof > 0.4,
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
    holdout, train = (side_of(values, positive, part) for part in (order[:110], order[110:]))
    recipe = wdbc.candidate("logistic")
    build = recipe.build(recipe.params, 0)
    oof = cross_val_predict(build, train.values, train.positive, cv=5, method="predict_proba")
    fitted = build.fit(train.values, train.positive)
    return Case(wdbc, train, holdout, oof[:, 1], lambda rows: fitted.predict_proba(rows)[:, 1])


@pytest.fixture(scope="session")
def scored(wdbc: Problem) -> Callable[..., Score]:
    """Score labels and probabilities that have no features."""

    def make(
        positive: object,
        probability: object,
        threshold: float = 0.5,
        *,
        keys: list[str] | None = None,
        values: np.ndarray | None = None,
        slices: tuple[SliceBounds, ...] = (),
    ) -> Score:
        labels = np.asarray(positive, dtype=np.int8)
        rows = SplitSide(
            tuple(keys or (f"row{i}" for i in range(len(labels)))),
            np.zeros((len(labels), 1)) if values is None else values,
            labels,
        )
        return score_rows(wdbc, rows, np.asarray(probability, dtype=np.float64), threshold, slices)

    return make
