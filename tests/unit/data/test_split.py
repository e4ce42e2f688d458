from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.data.rows import LabelledRows
from bc_pipeline.data.snapshot import Dataset
from bc_pipeline.data.split import Part, check_split, hash_position, split
from bc_pipeline.errors import SplitOverlap
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import row_key

NUMBERS = st.lists(st.integers(0, 99_999), min_size=1, max_size=40, unique=True)


def dataset_of(numbers: list[int]) -> Dataset:
    """One feature; its value is the number, and the label its parity."""
    ordered = sorted(numbers, key=lambda number: row_key([number]))
    return Dataset(
        digest="0" * 16,
        keys=tuple(row_key([number]) for number in ordered),
        ids=("",) * len(ordered),
        values=np.array(ordered, dtype=np.float64).reshape(-1, 1),
        positive=np.array([number % 2 for number in ordered], dtype=np.int8),
    )


def public_dataset(problem: Problem, rows: LabelledRows) -> Dataset:
    return Dataset(
        "0" * 16, rows.keys, rows.ids, rows.values, problem.labels.to_positive(rows.codes)
    )


def test_public_rows_give_a_holdout_with_the_share_of_the_whole(
    wdbc: Problem, public_rows: LabelledRows
) -> None:
    parts = split(wdbc, public_dataset(wdbc, public_rows))

    assert (len(parts.train), len(parts.holdout)) == (459, 110)
    assert int(parts.holdout.positive.sum()) == 41
    assert abs(parts.holdout.positive.mean() - (public_rows.codes == 0).mean()) < 0.001


@given(NUMBERS, NUMBERS)
def test_adding_rows_never_moves_a_row(few: list[int], more: list[int]) -> None:
    wdbc = get_problem("wdbc")
    before = split(wdbc, dataset_of(few))
    after = split(wdbc, dataset_of(sorted({*few, *more})))

    assert set(before.train.keys) <= set(after.train.keys)
    assert set(before.holdout.keys) <= set(after.holdout.keys)


@given(NUMBERS)
def test_every_row_stands_on_one_side_with_its_own_values_and_label(numbers: list[int]) -> None:
    parts = split(get_problem("wdbc"), dataset_of(numbers))

    assert len(parts.train) + len(parts.holdout) == len(numbers)
    for part in (parts.train, parts.holdout):
        assert part.keys == tuple(sorted(part.keys))
        for key, value, positive in zip(part.keys, part.values[:, 0], part.positive, strict=True):
            assert key == row_key([value])
            assert positive == int(value) % 2


def test_share_of_the_holdout_is_that_of_the_policy(wdbc: Problem) -> None:
    wider = replace(wdbc, split=replace(wdbc.split, holdout_share=0.7))

    narrow, wide = (split(p, dataset_of(list(range(5000)))) for p in (wdbc, wider))

    assert abs(len(narrow.holdout) / 5000 - 0.2) < 0.02
    assert abs(len(wide.holdout) / 5000 - 0.7) < 0.02
    assert set(narrow.holdout.keys) < set(wide.holdout.keys)


def test_another_salt_gives_another_holdout(wdbc: Problem) -> None:
    salted = replace(wdbc, split=replace(wdbc.split, salt="other"))
    rows = dataset_of(list(range(200)))

    assert split(wdbc, rows).holdout.keys != split(salted, rows).holdout.keys


@given(st.text(max_size=8), st.text(max_size=8))
def test_position_lies_in_the_unit_interval(salt: str, key: str) -> None:
    assert 0.0 <= hash_position(salt, key) < 1.0


def part_of(*pairs: tuple[str, float]) -> Part:
    keys, values = zip(*pairs, strict=True)
    return Part(keys, np.array(values).reshape(-1, 1), np.zeros(len(keys), dtype=np.int8))


def test_a_key_on_both_sides_is_an_overlap() -> None:
    with pytest.raises(SplitOverlap) as caught:
        check_split(part_of(("a", 1.0), ("b", 2.0)), part_of(("b", 3.0), ("c", 4.0)))

    assert caught.value.keys == ("b",)


def test_the_same_values_under_two_keys_are_an_overlap() -> None:
    with pytest.raises(SplitOverlap) as caught:
        check_split(part_of(("a", 1.0)), part_of(("b", 1.0)))

    assert caught.value.keys == (row_key([1.0]),)


def test_split_itself_refuses_a_dataset_whose_keys_hide_an_overlap(wdbc: Problem) -> None:
    share = wdbc.split.holdout_share
    sides = {hash_position(wdbc.split.salt, key) < share: key for key in map(str, range(50))}
    dataset = Dataset(
        "0" * 16, (sides[True], sides[False]), ("", ""), np.ones((2, 1)), np.zeros(2, np.int8)
    )

    with pytest.raises(SplitOverlap):
        split(wdbc, dataset)
