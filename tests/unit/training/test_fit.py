from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bc_pipeline.errors import DegenerateModel
from bc_pipeline.problems.base import Candidate, Problem
from bc_pipeline.training.fit import fit, positive_probability

if TYPE_CHECKING:
    from bc_pipeline.data.split import SplitSide

MakeFake = Callable[[Callable[[np.ndarray], np.ndarray]], Candidate]


@pytest.mark.parametrize("name", ["logistic", "svm_rbf", "random_forest", "gradient_boosting"])
def test_the_same_rows_give_the_same_model_with_malignant_in_column_1(
    name: str, wdbc: Problem, rows: SplitSide
) -> None:
    candidate = wdbc.candidate(name)

    first, second = (fit(candidate, 3, rows.values, rows.positive) for _ in range(2))

    probability = positive_probability(candidate, first, rows.values)
    np.testing.assert_array_equal(probability, positive_probability(candidate, second, rows.values))
    assert first.classes_.tolist() == [0, 1]
    assert probability[rows.positive == 1].mean() > probability[rows.positive == 0].mean() + 0.5


def test_threads_are_bounded_during_the_fit_only(rows: SplitSide) -> None:
    from threadpoolctl import threadpool_info

    seen: list[int] = []

    class Watching:
        def fit(self, values: np.ndarray, positive: np.ndarray) -> None:
            seen.extend(pool["num_threads"] for pool in threadpool_info())

        def predict_proba(self, values: np.ndarray) -> np.ndarray:
            return np.column_stack([1 - values[:, 0] / 100, values[:, 0] / 100])

    before = threadpool_info()
    fit(Candidate("w", "W", 1, {}, lambda params, seed: Watching()), 0, rows.values, rows.positive)

    assert seen
    assert set(seen) == {1}
    assert threadpool_info() == before


@pytest.mark.parametrize(
    "answer",
    [
        lambda values: np.full(len(values), 0.4),
        lambda values: np.where(np.arange(len(values)) == 3, np.nan, values[:, 0] / 100),
        lambda values: np.where(np.arange(len(values)) == 3, np.inf, values[:, 0] / 100),
        lambda values: values[:, 0],
    ],
    ids=["constant", "nan", "infinite", "above one"],
)
def test_a_degenerate_model_is_named(
    answer: Callable[[np.ndarray], np.ndarray], fake: MakeFake, rows: SplitSide
) -> None:
    with pytest.raises(DegenerateModel) as caught:
        fit(fake(answer), 0, rows.values, rows.positive)

    assert caught.value.candidate == "fake"


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_is_refused(label: int, wdbc: Problem, rows: SplitSide) -> None:
    with pytest.raises(DegenerateModel, match="one class only"):
        fit(wdbc.candidate("logistic"), 0, rows.values, np.full(len(rows.keys), label))
