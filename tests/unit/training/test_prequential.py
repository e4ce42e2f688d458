from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bc_pipeline.data.split import SplitSide
from bc_pipeline.problems.base import Candidate, Problem
from bc_pipeline.training import prequential
from bc_pipeline.training.fit import fit
from bc_pipeline.training.prequential import prequential_probability


@pytest.fixture
def logistic(quick: Problem) -> Candidate:
    return quick.candidate("logistic")


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prequential, "FIRST_ROWS", 40)
    monkeypatch.setattr(prequential, "FIRST_POSITIVE", 5)


def test_a_row_is_predicted_by_the_model_of_the_rows_before_its_block(
    logistic: Candidate, rows: SplitSide
) -> None:
    probability = prequential_probability(logistic, 1, rows)

    assert np.isnan(probability[:40]).all()
    assert np.isfinite(probability[40:]).all()
    # The first block has a tenth of 40 rows.
    first = fit(logistic, 1, rows.values[:40], rows.positive[:40])
    expected = first.predict_proba(rows.values[40:44])[:, 1]
    assert probability[40:44] == pytest.approx(expected, abs=1e-12)
    second = fit(logistic, 1, rows.values[:44], rows.positive[:44])
    assert probability[44] == pytest.approx(second.predict_proba(rows.values[44:45])[0, 1])


@pytest.mark.parametrize("count", [41, 43, 44, 45, 100])
def test_later_rows_change_no_earlier_probability(
    logistic: Candidate, rows: SplitSide, count: int
) -> None:
    before = prequential_probability(logistic, 1, rows.take(np.arange(count)))
    after = prequential_probability(logistic, 1, rows)

    np.testing.assert_allclose(before, after[:count], rtol=0, atol=1e-12)


def test_no_row_is_predicted_by_a_model_that_knows_its_label(
    logistic: Candidate, rows: SplitSide
) -> None:
    flipped = rows.positive.copy()
    flipped[60] = 1 - flipped[60]
    before = prequential_probability(logistic, 1, rows)
    after = prequential_probability(logistic, 1, replace(rows, positive=flipped))

    assert after[60] == before[60]
    assert (after[80:] != before[80:]).any()


def test_too_few_rows_of_a_class_are_not_predicted(logistic: Candidate, rows: SplitSide) -> None:
    benign = rows.take(np.flatnonzero(rows.positive == 0))

    assert np.isnan(prequential_probability(logistic, 1, benign)).all()


def test_the_seed_and_the_threads_reach_the_fit(
    logistic: Candidate, rows: SplitSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []

    def record(candidate: Candidate, seed: int, *args: Any) -> Any:
        seen.append((seed, args[-1]))
        return fit(candidate, seed, *args)

    monkeypatch.setattr(prequential, "fit", record)
    prequential_probability(logistic, 7, rows, threads=1)
    assert set(seen) == {(7, 1)}
