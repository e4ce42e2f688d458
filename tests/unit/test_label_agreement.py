from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from bc_pipeline.errors import LabelsRefused
from bc_pipeline.label_agreement import measure_agreement, require_agreement
from bc_pipeline.problems.wdbc import WDBC

CLEAR = 4.0


def agreement(log_odds: list[float], labels: list[int]) -> str:
    return measure_agreement(np.array(log_odds), np.array(labels, dtype=bool)).verdict


@pytest.mark.parametrize(
    ("log_odds", "labels", "verdict"),
    [
        ([], [], "undecided"),
        ([CLEAR, -CLEAR], [1, 0], "undecided"),
        ([CLEAR, -CLEAR, CLEAR], [1, 0, 1], "agrees"),
        ([CLEAR, -CLEAR, CLEAR], [0, 1, 0], "contradicts"),
        ([-CLEAR] * 3, [1, 1, 1], "contradicts"),
        ([-CLEAR] * 3, [0, 0, 0], "agrees"),
        ([0.1, -0.1] * 5, [1, 0] * 5, "undecided"),
        ([CLEAR] * 10 + [-CLEAR] * 10, [1] * 7 + [0] * 3 + [0] * 7 + [1] * 3, "agrees"),
    ],
)
def test_few_clear_rows_decide_and_unclear_ones_do_not(
    log_odds: list[float], labels: list[int], verdict: str
) -> None:
    assert agreement(log_odds, labels) == verdict


def test_rows_that_all_moved_to_one_side_are_not_called_swapped() -> None:
    log_odds = [9.0, 8.0, 9.0, 4.0, 5.0, 3.5, 4.0, 4.5, 5.0]
    labels = [1] * 3 + [0] * 6
    assert agreement(log_odds, labels) == "undecided"
    assert agreement(log_odds, [1 - label for label in labels]) == "undecided"


def test_labels_at_random_are_neither() -> None:
    log_odds = [CLEAR] * 40 + [-CLEAR] * 40
    labels = [1] * 18 + [0] * 22 + [1] * 22 + [0] * 18
    assert agreement(log_odds, labels) == "undecided"
    assert agreement(log_odds, [1 - label for label in labels]) == "undecided"


def test_one_absurd_row_decides_nothing() -> None:
    assert agreement([1e9, -0.5, -0.5], [0, 0, 0]) == "undecided"


@pytest.mark.parametrize("rows", [3, 5, 10, 57])
def test_right_labels_are_almost_never_called_swapped(rows: int) -> None:
    reference = WDBC.load_reference()
    log_odds = WDBC.class_profile.log_odds(reference.values)
    positive = reference.codes == 0
    generator = np.random.default_rng(rows)
    verdicts = [
        measure_agreement(log_odds[chosen], positive[chosen]).verdict
        for chosen in generator.integers(0, len(positive), (2000, rows))
    ]
    # The bound of the likelihood ratio is 1 in 1000.
    assert verdicts.count("contradicts") <= 2
    swapped = [
        measure_agreement(log_odds[chosen], ~positive[chosen]).verdict
        for chosen in generator.integers(0, len(positive), (2000, rows))
    ]
    assert swapped.count("agrees") <= 2
    if rows >= 10:
        assert swapped.count("contradicts") >= 1950


def test_codes_are_taken_where_declared_or_where_the_rows_show_them() -> None:
    labels = WDBC.labels
    few, many = np.array([CLEAR, -CLEAR]), np.array([CLEAR, -CLEAR] * 3)

    def check(log_odds: np.ndarray, positive: np.ndarray, *, declared: bool) -> None:
        coded = np.ones(len(positive), dtype=bool)
        require_agreement("a.csv", labels, log_odds, positive, coded, declared=declared)

    check(few, few > 0, declared=True)
    check(many, many > 0, declared=False)
    with pytest.raises(LabelsRefused, match=r"Declare the codes, such as 0=malignant,1=benign"):
        check(few, few > 0, declared=False)
    with pytest.raises(LabelsRefused, match=r"6 of 6 rows .* 0=benign,1=malignant") as refused:
        check(many, many < 0, declared=False)
    assert (refused.value.rows, refused.value.against) == (6, 6)


@pytest.mark.parametrize(("rows", "refused"), [(1, False), (3, False), (9, False), (10, True)])
@pytest.mark.parametrize("coded", [False, True], ids=["words", "declared codes"])
def test_many_labels_are_held_against_the_profile_and_a_few_corrections_are_not(
    rows: int, refused: bool, coded: bool
) -> None:
    log_odds, codes = np.array([CLEAR, -CLEAR] * 5)[:rows], np.full(rows, coded)
    question = "Are the codes 0=benign" if coded else "Are the words for the labels swapped"
    expected = pytest.raises(LabelsRefused, match=question) if refused else nullcontext()
    with expected:
        require_agreement("a.csv", WDBC.labels, log_odds, log_odds < 0, codes, declared=coded)
    with expected:
        all_positive = np.ones(rows, dtype=bool)
        require_agreement("a.csv", WDBC.labels, -abs(log_odds), all_positive, codes, declared=coded)
