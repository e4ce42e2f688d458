from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bc_pipeline.artifacts.evidence import labelled_rows_digest
from bc_pipeline.data.split import SplitSide
from bc_pipeline.problems.base import Candidate, Problem
from bc_pipeline.problems.policies import SelectionPolicy
from bc_pipeline.schema import row_key
from bc_pipeline.training.results import CandidateDocument, CandidateResult


@pytest.fixture
def quick(wdbc: Problem) -> Problem:
    """WDBC with two candidates that fit in milliseconds, and few folds."""
    logistic = wdbc.candidate("logistic")
    return replace(
        wdbc,
        candidates=(
            logistic,
            replace(logistic, name="loose", title="Loose", complexity=2, params={"C": 100.0}),
        ),
        selection=SelectionPolicy(
            folds=3, repeats=2, seed=5, sensitivity_target=0.95, noise_alpha=0.05
        ),
    )


@pytest.fixture(scope="session")
def rows(wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> SplitSide:
    """The first 120 public rows: values, labels and keys, in key order."""
    values, codes = reference[0][:120], reference[1][:120]
    keys = [row_key(row) for row in values]
    order = np.argsort(keys)
    return SplitSide(
        tuple(keys[index] for index in order),
        values[order],
        wdbc.labels.to_positive(codes)[order].astype(np.int8),
    )


class Fake:
    """A classifier that says what `answer` says of the values."""

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        self.answer = answer

    def fit(self, values: np.ndarray, positive: np.ndarray) -> Fake:
        return self

    def predict_proba(self, values: np.ndarray) -> np.ndarray:
        probability = self.answer(values)
        return np.column_stack([1 - probability, probability])


@pytest.fixture
def fake() -> Callable[[Callable[[np.ndarray], np.ndarray]], Candidate]:
    """Make a candidate of a function from values to probabilities."""

    def make(answer: Callable[[np.ndarray], np.ndarray]) -> Candidate:
        def build(params: Any, seed: int) -> Fake:
            return Fake(answer)

        return Candidate("fake", "Fake", 1, {}, build)

    return make


@pytest.fixture
def result_of(quick: Problem) -> Callable[..., CandidateResult]:
    """Make a result out of thin air: losses for the choice, probabilities for the threshold."""

    def make(
        candidate: str,
        losses: Any,
        probability: Any = ((0.9, 0.8, 0.2, 0.1),),
        positive: Any = (1, 1, 0, 0),
        **changes: Any,
    ) -> CandidateResult:
        entry = quick.candidate(candidate)
        keys = tuple(f"row{number:03}" for number in range(len(positive)))
        fields: dict[str, Any] = {
            "problem": quick.name,
            "candidate": entry.name,
            "title": entry.title,
            "recipe": entry.recipe,
            "params": dict(entry.params),
            "seed": quick.selection.seed,
            "dataset": "d" * 16,
            "code_version": "0.0.0+test",
            "folds": quick.selection.folds,
            "repeats": quick.selection.repeats,
            "rows": len(keys),
            "positive_rows": int(np.sum(positive)),
            "rows_digest": labelled_rows_digest(keys, positive),
            "losses": tuple(tuple(float(loss) for loss in repeat) for repeat in losses),
            "metrics": {
                "brier": float(np.mean(losses)),
                "roc_auc": 0.9,
                "sensitivity": 0.9,
                "specificity": 0.9,
                "nested_sensitivity": 0.9,
                "nested_specificity": 0.9,
            },
            "out_of_fold_sha256": "0" * 64,
        }
        return CandidateResult(
            document=CandidateDocument(**(fields | changes)),
            keys=keys,
            positive=np.array(positive, dtype=np.int8),
            probability=np.array(probability, dtype=np.float64),
            nested_threshold=np.full(len(positive), 0.5),
        )

    return make
