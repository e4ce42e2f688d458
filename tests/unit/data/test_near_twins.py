from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.data import near_twins
from bc_pipeline.data.near_twins import NO_GROUP, GroupIndex, find_groups
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import NearTwinPolicy

POLICY = NearTwinPolicy(relative=0.01, absolute=0.01)


def jitter(share: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: (
        values * (1 + np.random.default_rng(3).uniform(-share, share, values.shape))
    )


def three_digits(values: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda value: float(f"{value:.3g}"))(values)


COPIES = {
    "3 decimals": lambda values: np.round(values, 3),
    "2 decimals": lambda values: np.round(values, 2),
    "3 digits": three_digits,
    "float32": lambda values: values.astype(np.float32).astype(np.float64),
    "float16": lambda values: values.astype(np.float16).astype(np.float64),
    "off by .4 %": jitter(0.004),
    "off by .5 %": jitter(0.005),
}


@pytest.fixture(scope="module")
def rows(reference: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return reference[0]


def within_reach(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(POLICY.scale(one) - POLICY.scale(other)).max() <= 1)


def slow_groups(values: np.ndarray) -> tuple[list[set[int]], list[int]]:
    """The groups that each row is a near-twin of, and first rows, by the definition."""
    first: list[int] = []
    groups: list[set[int]] = []
    for row, value in enumerate(values):
        near = {
            number for number, leader in enumerate(first) if within_reach(values[leader], value)
        }
        groups.append(near or {len(first)})
        if not near:
            first.append(row)
    return groups, first


def test_no_two_public_rows_are_near_twins_by_a_wide_margin(
    wdbc: Problem, rows: np.ndarray
) -> None:
    assert wdbc.near_twins is not None
    points = wdbc.near_twins.scale(rows)
    nearest = min(
        np.abs(points[:row] - points[row]).max(axis=1).min() for row in range(1, len(points))
    )

    assert nearest > 6


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_every_public_row_is_the_near_twin_of_its_copy_and_of_no_other(
    wdbc: Problem, rows: np.ndarray, copy: Callable[[np.ndarray], np.ndarray]
) -> None:
    groups, first, bridging = find_groups(wdbc.near_twins, np.concatenate([rows, copy(rows)]))

    assert groups.tolist() == [*range(569), *range(569)]
    assert first.tolist() == list(range(569))
    assert not bridging.any()


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_two_copies_are_near_twins_without_the_rows_that_they_were_made_of(
    wdbc: Problem, rows: np.ndarray, copy: Callable[[np.ndarray], np.ndarray]
) -> None:
    other = np.round(rows, 3)

    groups = find_groups(wdbc.near_twins, np.concatenate([copy(rows), other]))[0]

    assert groups.tolist() == [*range(569), *range(569)]


def test_the_tolerance_is_absolute_near_zero_and_relative_for_large_values() -> None:
    base = np.array([0.0, 1000.0])

    assert within_reach(base, np.array([0.0099, 1009.0]))
    assert not within_reach(base, np.array([0.0102, 1000.0]))
    assert not within_reach(base, np.array([0.0, 1011.0]))
    assert within_reach(np.array([-1000.0]), np.array([-1009.0]))
    assert not within_reach(np.array([-0.006]), np.array([0.006]))


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 2), max_size=40), st.integers(1, 7))
def test_groups_are_those_of_the_definition_in_blocks_of_any_size(
    cells: list[tuple[int, int]], block: int
) -> None:
    values = np.array(cells, dtype=np.float64).reshape(-1, 2) * 0.004
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(near_twins, "_BLOCK", block)
        groups, first, bridging = find_groups(POLICY, values)

    wanted, wanted_first = slow_groups(values)
    assert first.tolist() == wanted_first
    assert bridging.tolist() == [len(near) > 1 for near in wanted]
    assert all(group in near for group, near in zip(groups.tolist(), wanted, strict=True))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=30), st.integers(0, 30))
def test_later_rows_never_change_the_groups_of_earlier_ones(cells: list[int], count: int) -> None:
    values = np.array(cells, dtype=np.float64).reshape(-1, 1) * 0.004
    groups, first, bridging = find_groups(POLICY, values)

    earlier_groups, earlier_first, earlier_bridging = find_groups(POLICY, values[:count])

    assert groups[:count].tolist() == earlier_groups.tolist()
    assert bridging[:count].tolist() == earlier_bridging.tolist()
    assert first[: len(earlier_first)].tolist() == earlier_first.tolist()


def test_rows_added_in_parts_have_the_groups_of_all_at_once(rows: np.ndarray) -> None:
    mixed = np.concatenate([rows[:90], np.round(rows[30:200], 3), rows[150:]])
    index = GroupIndex(POLICY)

    parts = [index.add(part)[0] for part in np.split(mixed, [1, 3, 40, 41, 300, 301])]

    assert np.concatenate(parts).tolist() == find_groups(POLICY, mixed)[0].tolist()


def test_without_a_policy_every_row_is_a_group_of_its_own() -> None:
    index = GroupIndex(None)

    assert index.add(np.zeros((2, 1)))[0].tolist() == [0, 1]
    assert index.add(np.zeros((1, 1)))[0].tolist() == [2]
    assert index.find(np.zeros((1, 1))).tolist() == [[NO_GROUP, NO_GROUP]]


def test_the_digest_of_a_policy_is_that_of_its_tolerances() -> None:
    digests = {
        NearTwinPolicy(0.01, 0.01).digest,
        NearTwinPolicy(0.02, 0.01).digest,
        NearTwinPolicy(0.01, 0.02).digest,
    }

    assert len(digests) == 3
    assert NearTwinPolicy(0.01, 0.01).digest == POLICY.digest
