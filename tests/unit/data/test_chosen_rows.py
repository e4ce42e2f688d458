from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from bc_pipeline.data.chosen_rows import BatchRows, choose_rows
from bc_pipeline.data.rows import LabelledRows
from bc_pipeline.problems.policies import NearTwinPolicy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = NearTwinPolicy(relative=0.01, absolute=0.01)


def batch(number: int, rows: dict[str, float], *, counts: bool = True, ids: str = "") -> BatchRows:
    """Rows of one feature, by key, in the order in which the batches were made."""
    table = LabelledRows(
        tuple(rows),
        tuple(ids.split(",")) if ids else ("",) * len(rows),
        np.array(list(rows.values())).reshape(-1, 1),
        np.zeros(len(rows), dtype=np.int64),
    )
    return BatchRows(table, (number, NOW), counts)


def test_each_row_of_its_own_is_chosen() -> None:
    chosen = choose_rows(POLICY, [batch(1, {"b": 1.0}), batch(2, {"a": 2.0, "c": 3.0})])

    assert chosen.rows.keys == ("a", "b", "c")
    assert chosen.rows.values[:, 0].tolist() == [2.0, 1.0, 3.0]
    assert chosen.rows.groups is None
    assert (chosen.near_repeats, chosen.bridging) == (0, 0)


def test_the_first_row_of_a_group_is_chosen_whatever_the_order_of_the_batches() -> None:
    batches = [batch(2, {"a": 1.0}), batch(1, {"b": 1.005})]

    for order in (batches, batches[::-1]):
        chosen = choose_rows(POLICY, order)
        assert chosen.rows.keys == ("b",)
        assert chosen.rows.groups is None
        assert chosen.near_repeats == 1


def test_after_a_withdrawal_the_next_row_stands_for_the_group_with_the_same_key() -> None:
    batches = [batch(1, {"b": 1.0, "x": 5.0}, counts=False), batch(2, {"a": 1.005})]

    chosen = choose_rows(POLICY, batches)

    assert chosen.rows.keys == ("a",)
    assert chosen.rows.groups == ("b",)


def test_the_same_row_in_a_batch_that_counts_is_chosen_after_a_withdrawal() -> None:
    chosen = choose_rows(
        POLICY, [batch(1, {"b": 1.0}, counts=False), batch(2, {"b": 1.0}, ids="p1")]
    )

    assert (chosen.rows.keys, chosen.rows.ids, chosen.rows.groups) == (("b",), ("p1",), None)


def test_batches_of_an_earlier_release_are_taken_by_arrival() -> None:
    early, late = (batch(0, {key: 1.0 + n / 200}) for n, key in enumerate("ba"))
    late = late._replace(order=(0, NOW + timedelta(days=1)))

    assert choose_rows(POLICY, [late, early]).rows.keys == ("b",)


def test_rows_of_one_order_are_taken_by_key() -> None:
    assert choose_rows(POLICY, [batch(0, {"b": 1.0}), batch(0, {"a": 1.005})]).rows.keys == ("a",)


@pytest.mark.parametrize("counts", [True, False])
def test_a_row_between_two_groups_is_never_chosen(counts: bool) -> None:
    batches = [
        batch(1, {"a": 1.0}, counts=counts),
        batch(2, {"c": 1.032}),
        batch(3, {"b": 1.016}),
    ]

    chosen = choose_rows(POLICY, batches)

    assert chosen.rows.keys == (("a", "c") if counts else ("c",))
    assert (chosen.near_repeats, chosen.bridging) == (1, 1)


def test_rows_of_two_withdrawn_groups_that_are_near_twins_are_not_both_chosen() -> None:
    batches = [
        batch(1, {"a": 1.0, "d": 1.045}, counts=False),
        batch(2, {"b": 1.015}),
        batch(3, {"c": 1.030}),
    ]

    chosen = choose_rows(POLICY, batches)

    assert (chosen.rows.keys, chosen.rows.groups) == (("b",), ("a",))


def test_without_a_policy_only_equal_keys_are_one_row() -> None:
    chosen = choose_rows(None, [batch(1, {"a": 1.0}), batch(2, {"a": 1.0, "b": 1.0})])

    assert chosen.rows.keys == ("a", "b")
    assert chosen.near_repeats == 0
