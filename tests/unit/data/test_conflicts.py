from __future__ import annotations

from dataclasses import replace

import numpy as np

from bc_pipeline.data.conflicts import find_conflicts
from bc_pipeline.data.rows import LabelledRows
from bc_pipeline.errors import Defect
from bc_pipeline.problems.base import Problem
from bc_pipeline.tables.file_conflicts import (
    ID_REUSED,
    LABELS_DIFFER,
    NEAR_LABELS_DIFFER,
    NEAR_REPEATED,
    REPEATED,
)

ID = Defect(ID_REUSED, column="id")
LABEL = Defect(LABELS_DIFFER, column="diagnosis")
AGAIN = Defect(REPEATED)
NEAR_LABEL = Defect(NEAR_LABELS_DIFFER, column="diagnosis")
NEAR_AGAIN = Defect(NEAR_REPEATED)


class FakeAcceptedRows:
    """Accepted rows that contradict some keys."""

    def __init__(self, *bad_keys: str) -> None:
        self.bad_keys = bad_keys

    def defects(self, rows: LabelledRows) -> list[list[Defect]]:
        return [[Defect("known otherwise")] if key in self.bad_keys else [] for key in rows.keys]


def conflicts_of(
    problem: Problem, *rows: tuple[str, str, int], accepted: FakeAcceptedRows | None = None
) -> dict[int, list[Defect]]:
    """Conflicts among rows given as (key, id, code); `a+` is a near-twin of `a` and of `a++`."""
    keys, ids, codes = zip(*rows, strict=True)
    values = np.array([[ord(key[0]) * 10.0 * 1.008 ** key.count("+")] * 30 for key in keys])
    table = LabelledRows(keys, ids, values, np.array(codes))
    return find_conflicts(problem, table, accepted or FakeAcceptedRows())


def test_unrelated_rows_have_no_conflicts(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "1", 0), ("b", "2", 1), ("c", "", 0), ("d", "", 0)) == {}


def test_the_first_of_repeated_rows_is_accepted(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "", 0), ("b", "", 0), ("a", "", 0), ("a", "", 0)) == {
        2: [AGAIN],
        3: [AGAIN],
    }


def test_a_repeat_under_another_id_is_a_repeat(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "1", 0), ("a", "2", 0)) == {1: [AGAIN]}


def test_all_rows_of_an_id_with_several_values_are_rejected(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "1", 0), ("b", "1", 0), ("c", "2", 0)) == {0: [ID], 1: [ID]}


def test_all_rows_of_values_with_several_labels_are_rejected(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "1", 0), ("a", "2", 1), ("b", "3", 1)) == {
        0: [LABEL],
        1: [LABEL],
    }


def test_a_row_with_both_contradictions_has_both_reasons(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "1", 0), ("a", "1", 1), ("b", "1", 1)) == {
        0: [ID, LABEL],
        1: [ID, LABEL],
        2: [ID],
    }


def test_a_repeat_of_a_rejected_row_is_no_repeat(wdbc: Problem) -> None:
    rows = (("a", "1", 0), ("b", "1", 0), ("a", "2", 0), ("a", "3", 0))

    assert conflicts_of(wdbc, *rows) == {0: [ID], 1: [ID], 3: [AGAIN]}


def test_a_repeat_with_a_reused_id_has_both_reasons(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "", 0), ("a", "1", 0), ("b", "1", 0)) == {
        1: [ID, AGAIN],
        2: [ID],
    }


def test_a_contradiction_of_an_accepted_row_rejects_the_row(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "1", 0), ("b", "2", 0), accepted=FakeAcceptedRows("b")) == {
        1: [Defect("known otherwise")]
    }


def test_a_near_twin_is_a_repeat(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "1", 0), ("b", "2", 0), ("a+", "3", 0), ("a+", "", 0)) == {
        2: [NEAR_AGAIN],
        3: [NEAR_AGAIN],
    }


def test_a_near_twin_under_the_same_id_contradicts_nothing(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "1", 0), ("a+", "1", 0)) == {1: [NEAR_AGAIN]}


def test_near_twins_with_several_labels_are_all_rejected(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "", 0), ("a+", "", 1), ("a+", "", 1), ("b", "", 1)) == {
        0: [NEAR_LABEL],
        1: [NEAR_LABEL],
        2: [NEAR_LABEL],
    }


def test_a_row_between_two_labels_contradicts_the_other_one(wdbc: Problem) -> None:
    assert conflicts_of(wdbc, ("a", "", 0), ("a++", "", 1), ("a+", "", 1)) == {
        0: [NEAR_LABEL],
        2: [NEAR_LABEL, NEAR_AGAIN],
    }


def test_a_near_twin_of_a_rejected_row_is_no_repeat(wdbc: Problem) -> None:
    rows = (("a", "1", 0), ("b", "1", 0), ("a+", "2", 0), ("a+", "3", 0))

    assert conflicts_of(wdbc, *rows) == {0: [ID], 1: [ID], 3: [AGAIN]}


def test_without_a_policy_only_equal_rows_are_repeats(wdbc: Problem) -> None:
    exact = replace(wdbc, near_twins=None)

    assert conflicts_of(exact, ("a", "", 0), ("a+", "", 1), ("a", "", 0)) == {2: [AGAIN]}
