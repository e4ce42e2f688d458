from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.errors import DegenerateModel, EvidenceMismatch
from bc_pipeline.problems.base import Problem
from bc_pipeline.training.results import CandidateResult
from bc_pipeline.training.select import select, sensitivity_threshold

MakeResult = Callable[..., CandidateResult]
SPREAD = np.array([[0.00, 0.02, 0.01], [0.02, 0.00, 0.01]])


def test_the_simplest_within_noise_wins(quick: Problem, result_of: MakeResult) -> None:
    simple = result_of("logistic", 0.051 + SPREAD)
    better = result_of("loose", 0.050 + SPREAD[::-1])

    selection = select(quick, [better, simple])

    assert selection.candidate == "logistic"
    assert selection.recipe == simple.record.recipe
    assert [line.candidate for line in selection.table] == ["loose", "logistic"]
    best, chosen = selection.table
    assert (best.excess, best.p_value, best.within_noise, best.chosen) == (0.0, 1.0, True, False)
    assert chosen.excess == pytest.approx(0.001)
    assert 0.05 < chosen.p_value < 1.0
    assert chosen.within_noise
    assert chosen.chosen
    assert "within noise of the best (Loose" in selection.why


def test_a_candidate_that_is_clearly_better_wins_over_a_simpler_one(
    quick: Problem, result_of: MakeResult
) -> None:
    selection = select(
        quick,
        [result_of("logistic", 0.10 + 0.01 * SPREAD), result_of("loose", 0.05 + SPREAD * 0.02)],
    )

    assert selection.candidate == "loose"
    assert not selection.table[1].within_noise
    assert "no simpler candidate is within noise" in selection.why


def test_the_choice_does_not_depend_on_the_order(quick: Problem, result_of: MakeResult) -> None:
    results = [result_of("logistic", 0.051 + SPREAD), result_of("loose", 0.05 + SPREAD)]

    assert select(quick, results) == select(quick, results[::-1])


def test_equal_losses_go_to_the_simpler(quick: Problem, result_of: MakeResult) -> None:
    selection = select(quick, [result_of("loose", SPREAD), result_of("logistic", SPREAD)])

    assert selection.candidate == "logistic"
    assert selection.table[0].candidate == "logistic"
    assert selection.why.endswith("the best, and is the simplest.")


def test_equal_complexity_goes_to_the_lower_loss(quick: Problem, result_of: MakeResult) -> None:
    level = replace(
        quick, candidates=tuple(replace(entry, complexity=1) for entry in quick.candidates)
    )
    selection = select(
        level, [result_of("logistic", 0.051 + SPREAD), result_of("loose", 0.05 + SPREAD)]
    )

    assert selection.candidate == "loose"


def test_one_candidate_is_chosen_without_a_test(quick: Problem, result_of: MakeResult) -> None:
    selection = select(quick, [result_of("loose", SPREAD)])

    assert selection.candidate == "loose"
    assert "the only candidate" in selection.why


def test_no_candidate_is_an_error(quick: Problem) -> None:
    with pytest.raises(EvidenceMismatch):
        select(quick, [])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rows_digest": "f" * 64}, "rows"),
        ({"dataset": "other"}, "dataset"),
        ({"seed": 1, "code_version": "0.0.0+other"}, "seed, code"),
    ],
)
def test_results_about_different_things_are_not_compared(
    change: dict[str, Any], named: str, quick: Problem, result_of: MakeResult
) -> None:
    with pytest.raises(EvidenceMismatch, match=f"differ in {named}"):
        select(quick, [result_of("logistic", SPREAD), result_of("loose", SPREAD, **change)])


def test_the_threshold_reaches_the_target_with_the_fewest_calls(
    quick: Problem, result_of: MakeResult
) -> None:
    # Twenty malignant rows, so that .95 asks for nineteen: all but the one at .05.
    malignant = [0.05, 0.4, *np.linspace(0.6, 0.99, 18)]
    benign = [0.01, 0.1, 0.3, 0.5]
    result = result_of(
        "logistic", SPREAD, [malignant + benign], [1] * len(malignant) + [0] * len(benign)
    )

    selection = select(quick, [result])

    assert selection.threshold == pytest.approx((0.3 + 0.4) / 2)
    assert selection.sensitivity == pytest.approx(0.95)
    assert selection.specificity == pytest.approx(0.75)


def test_the_threshold_is_set_on_the_mean_over_the_repeats(
    quick: Problem, result_of: MakeResult
) -> None:
    result = result_of("logistic", SPREAD, [[0.9, 0.2, 0.0, 0.1], [0.5, 0.6, 0.2, 0.1]])

    # Means: .7 and .4 for the malignant rows, .1 for the benign ones.
    assert sensitivity_threshold(result, 1.0) == pytest.approx(0.25)


def test_rows_tied_at_the_threshold_are_called_together(
    quick: Problem, result_of: MakeResult
) -> None:
    result = result_of("logistic", SPREAD, [[0.5, 0.5, 0.5, 0.5, 0.2]], [1, 1, 1, 0, 0])

    threshold = sensitivity_threshold(result, 1 / 3)

    assert threshold == pytest.approx(0.35)
    assert (result.pooled > threshold).tolist() == [True, True, True, True, False]


def test_neighbouring_floats_are_told_apart(result_of: MakeResult) -> None:
    upper = 0.5
    lower = float(np.nextafter(upper, 0.0))
    result = result_of("logistic", SPREAD, [[upper, lower]], [1, 0])

    threshold = sensitivity_threshold(result, 1.0)

    assert (result.pooled > threshold).tolist() == [True, False]


def test_no_threshold_calls_a_row_of_probability_zero(
    quick: Problem, result_of: MakeResult
) -> None:
    result = result_of("logistic", SPREAD, [[0.9, 0.0, 0.0, 0.1]])

    with pytest.raises(DegenerateModel) as caught:
        select(quick, [result])
    assert caught.value.candidate == "logistic"


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([0, 1]), st.sampled_from(np.linspace(0.05, 1.0, 20).tolist())),
        min_size=1,
        max_size=60,
    ).filter(lambda rows: any(label for label, _ in rows)),
    target=st.floats(0.01, 1.0),
)
def test_no_higher_threshold_would_do(rows: list[tuple[int, float]], target: float) -> None:
    positive = np.array([label for label, _ in rows])
    pooled = np.array([probability for _, probability in rows])
    result = CandidateResult(cast("Any", None), (), positive, pooled[None, :])

    threshold = sensitivity_threshold(result, target)

    malignant = pooled[positive == 1]
    assert np.mean(malignant > threshold) >= target - 1e-9
    assert threshold not in pooled
    higher = [value for value in pooled if value > threshold]
    assert np.mean(malignant > min(higher)) < target
