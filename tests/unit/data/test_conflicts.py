from __future__ import annotations

import numpy as np

from bc_pipeline.data.conflicts import ID_REUSED, LABELS_DIFFER, REPEATED, conflicts
from bc_pipeline.data.rows import LabelledRows
from bc_pipeline.errors import Defect
from bc_pipeline.problems.base import Problem

ID = Defect(ID_REUSED, column="id")
LABEL = Defect(LABELS_DIFFER, column="diagnosis")
AGAIN = Defect(REPEATED)


class FakeHistory:
    """Holds nothing, or a grudge against some keys."""

    def __init__(self, *bad_keys: str) -> None:
        self.bad_keys = bad_keys

    def defects(self, key: str, name: str, code: int) -> list[Defect]:
        return [Defect("known otherwise")] if key in self.bad_keys else []


def found(
    problem: Problem, *rows: tuple[str, str, int], history: FakeHistory | None = None
) -> dict[int, list[Defect]]:
    """Conflicts among rows given as (key, id, code)."""
    keys, ids, codes = zip(*rows, strict=True)
    table = LabelledRows(keys, ids, np.zeros((len(rows), 30)), np.array(codes))
    return conflicts(problem, table, history or FakeHistory())


def test_rows_that_have_nothing_to_do_with_each_other_are_fine(wdbc: Problem) -> None:
    assert found(wdbc, ("a", "1", 0), ("b", "2", 1), ("c", "", 0), ("d", "", 0)) == {}


def test_of_a_repeated_row_the_first_stays(wdbc: Problem) -> None:
    assert found(wdbc, ("a", "", 0), ("b", "", 0), ("a", "", 0), ("a", "", 0)) == {
        2: [AGAIN],
        3: [AGAIN],
    }


def test_a_repeat_under_another_id_is_a_repeat(wdbc: Problem) -> None:
    assert found(wdbc, ("a", "1", 0), ("a", "2", 0)) == {1: [AGAIN]}


def test_an_id_with_several_values_keeps_all_its_rows_out(wdbc: Problem) -> None:
    assert found(wdbc, ("a", "1", 0), ("b", "1", 0), ("c", "2", 0)) == {0: [ID], 1: [ID]}


def test_values_with_several_labels_keep_all_their_rows_out(wdbc: Problem) -> None:
    assert found(wdbc, ("a", "1", 0), ("a", "2", 1), ("b", "3", 1)) == {0: [LABEL], 1: [LABEL]}


def test_a_row_with_both_contradictions_has_both_reasons(wdbc: Problem) -> None:
    assert found(wdbc, ("a", "1", 0), ("a", "1", 1), ("b", "1", 1)) == {
        0: [ID, LABEL],
        1: [ID, LABEL],
        2: [ID],
    }


def test_an_earlier_row_that_is_kept_out_does_not_make_a_repeat(wdbc: Problem) -> None:
    rows = (("a", "1", 0), ("b", "1", 0), ("a", "2", 0), ("a", "3", 0))

    assert found(wdbc, *rows) == {0: [ID], 1: [ID], 3: [AGAIN]}


def test_a_repeat_whose_id_is_in_doubt_has_both_reasons(wdbc: Problem) -> None:
    assert found(wdbc, ("a", "", 0), ("a", "1", 0), ("b", "1", 0)) == {1: [ID, AGAIN], 2: [ID]}


def test_a_contradiction_of_history_keeps_the_row_out(wdbc: Problem) -> None:
    assert found(wdbc, ("a", "1", 0), ("b", "2", 0), history=FakeHistory("b")) == {
        1: [Defect("known otherwise")]
    }
