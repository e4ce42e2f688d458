from __future__ import annotations

import numpy as np
import pytest

from bc_pipeline.artifacts.manifest import DecisionRule
from bc_pipeline.errors import DegenerateModel
from bc_pipeline.problems.base import Problem

THRESHOLD = 0.4


@pytest.fixture
def rule(wdbc: Problem) -> DecisionRule:
    return DecisionRule("v", "logistic", THRESHOLD, wdbc.labels)


def test_a_probability_above_the_threshold_is_positive(rule: DecisionRule) -> None:
    probabilities = [0.0, THRESHOLD, float(np.nextafter(THRESHOLD, 1)), 1.0]
    expected = [False, False, True, True]
    assert rule.are_positive(np.array(probabilities), 4).tolist() == expected
    labels = [rule.label(probability) for probability in probabilities]
    assert [label is rule.labels.positive for label in labels] == expected
    assert labels[0] is rule.labels.negative


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, -1e-9, 1 + 1e-9])
def test_anything_but_a_probability_is_refused(rule: DecisionRule, wrong: float) -> None:
    with pytest.raises(DegenerateModel, match="v did not return one probability") as caught:
        rule.label(wrong)
    assert caught.value.candidate == "logistic"
    with pytest.raises(DegenerateModel):
        rule.are_positive(np.array([0.5, wrong]), 2)


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1), ()])
def test_another_number_of_probabilities_is_refused(
    rule: DecisionRule, shape: tuple[int, ...]
) -> None:
    with pytest.raises(DegenerateModel):
        rule.are_positive(np.full(shape, 0.5), 3)


def test_no_rows_have_no_calls(rule: DecisionRule) -> None:
    assert rule.are_positive(np.empty(0), 0).shape == (0,)
