from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bc_pipeline.corrected_t_test import corrected_resampled_t
from bc_pipeline.errors import DegenerateModel, EvidenceMismatch
from bc_pipeline.problems.base import Problem
from bc_pipeline.training.results import CandidateResult
from bc_pipeline.training.select import select

MakeResult = Callable[..., CandidateResult]
SPREAD = np.array([[0.00, 0.02, 0.01], [0.02, 0.00, 0.01]])


def test_the_simplest_within_noise_wins(quick: Problem, result_of: MakeResult) -> None:
    simple = result_of("logistic", 0.051 + SPREAD)
    better = result_of("loose", 0.050 + SPREAD[::-1])

    selection = select(quick, [better, simple])

    assert selection.candidate == "logistic"
    assert selection.recipe == simple.document.recipe
    test = corrected_resampled_t(simple.losses - better.losses, 1 / quick.selection.folds)
    assert 0.05 < test.two_sided < 1.0
    assert selection.why == (
        "Logistic regression has a mean Brier score of 0.0610 over the folds, within noise of the "
        "best "
        f"(Loose, 0.0600, p = {test.two_sided:.2g}), and no simpler candidate is."
    )


def test_a_candidate_that_is_clearly_better_wins_over_a_simpler_one(
    quick: Problem, result_of: MakeResult
) -> None:
    selection = select(
        quick,
        [result_of("logistic", 0.10 + 0.01 * SPREAD), result_of("loose", 0.05 + SPREAD * 0.02)],
    )

    assert selection.candidate == "loose"
    assert "no simpler candidate is within noise" in selection.why


def test_the_choice_does_not_depend_on_the_order(quick: Problem, result_of: MakeResult) -> None:
    results = [result_of("logistic", 0.051 + SPREAD), result_of("loose", 0.05 + SPREAD)]

    assert select(quick, results) == select(quick, results[::-1])


def test_equal_losses_go_to_the_simpler(quick: Problem, result_of: MakeResult) -> None:
    selection = select(quick, [result_of("loose", SPREAD), result_of("logistic", SPREAD)])

    assert selection.candidate == "logistic"
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
def test_results_of_other_rows_folds_or_code_are_not_compared(
    change: dict[str, Any], named: str, quick: Problem, result_of: MakeResult
) -> None:
    with pytest.raises(EvidenceMismatch, match=f"differ in {named}"):
        select(quick, [result_of("logistic", SPREAD), result_of("loose", SPREAD, **change)])


def test_the_threshold_reaches_the_target_with_the_fewest_calls(
    quick: Problem, result_of: MakeResult
) -> None:
    # A target of .95 needs 38 of the 39 malignant rows: all but the one at .05.
    malignant = [0.05, 0.4, *np.linspace(0.6, 0.99, 37)]
    benign = [0.01, 0.1, 0.3, 0.5]
    result = result_of(
        "logistic", SPREAD, [malignant + benign], [1] * len(malignant) + [0] * len(benign)
    )

    selection = select(quick, [result])

    assert selection.threshold == pytest.approx((0.3 + 0.4) / 2)
    calls = result.pooled > selection.threshold
    assert calls[result.positive == 1].sum() == 38
    assert calls[result.positive == 0].mean() == pytest.approx(0.25)


def test_the_threshold_is_set_on_the_mean_over_the_repeats(
    quick: Problem, result_of: MakeResult
) -> None:
    result = result_of("logistic", SPREAD, [[0.9, 0.2, 0.0, 0.1], [0.5, 0.6, 0.2, 0.1]])

    # Means: .7 and .4 for the malignant rows, .1 for the benign ones.
    assert select(quick, [result]).threshold == pytest.approx(0.25)


def test_no_threshold_calls_a_row_of_probability_zero(
    quick: Problem, result_of: MakeResult
) -> None:
    result = result_of("logistic", SPREAD, [[0.9, 0.0, 0.0, 0.1]])

    with pytest.raises(DegenerateModel) as caught:
        select(quick, [result])
    assert caught.value.candidate == "logistic"
