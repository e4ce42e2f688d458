from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.data.rows import LabelledRows
from bc_pipeline.data.snapshot import Dataset
from bc_pipeline.data.split import SplitSide, check_split, hash_position, split
from bc_pipeline.errors import SplitOverlap
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import NearTwinPolicy
from bc_pipeline.schema import row_key
from bc_pipeline.training.folds import assign_folds

# Rows of the public data set: key, side, and fold in the first three repeats of the
# cross-validation. None of them may ever change, also not by another order of the rows.
SIDES = (
    ("6060514da770a644d4636684", "train", (0, 4, 0)),
    ("6f93972bad143890d5a3f3ae", "train", (0, 1, 1)),
    ("131fd9f82414694737cc77d5", "train", (0, 0, 4)),
    ("1d42eededf8264d899d7403d", "train", (2, 4, 1)),
    ("8270a7df7b0329b20fc013c6", "train", (1, 1, 2)),
    ("de87245c5774cc68f184afab", "train", (3, 1, 0)),
    ("032c8bc655a32f0fa0c2e194", "train", (4, 0, 1)),
    ("04455ae95e9b4fbeca543e42", "train", (1, 3, 1)),
    ("f2f582739e50aa380b74ccd0", "train", (1, 4, 3)),
    ("3ff0611abaa7499e9eef071d", "train", (2, 0, 4)),
    ("ec71eb27edb4457e97116adc", "train", (0, 0, 0)),
    ("a602d58b98ce5d1b0cbcf4d8", "train", (2, 0, 0)),
    ("cba45e78bcf2fb3cdf03137c", "holdout", ()),
    ("8749ff2689d546300da8cb72", "holdout", ()),
    ("6eb2aee24f9a6f419234dd93", "holdout", ()),
    ("59aa6a6d6581df7605f73dc1", "holdout", ()),
    ("cfbc63faba1f552d32cf8d6a", "holdout", ()),
    ("665e4488cbe99564dbc8f199", "holdout", ()),
    ("48f0abe377d149c4e1cf2caa", "holdout", ()),
    ("46d3afe0fda4b710e9d93829", "holdout", ()),
    ("0054e53be63469223d668c38", "holdout", ()),
    ("5fe981aa1ffd86f8730d6c09", "holdout", ()),
    ("c8642f898b356c526bbdd3f1", "holdout", ()),
    ("eece7a1c21a0e5ad211f8dcf", "holdout", ()),
)
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
    parts = split(wdbc.split, public_dataset(wdbc, public_rows))

    assert (len(parts.train), len(parts.holdout)) == (459, 110)
    assert int(parts.holdout.positive.sum()) == 41
    assert abs(parts.holdout.positive.mean() - (public_rows.codes == 0).mean()) < 0.001


def test_sides_and_folds_of_public_rows_are_pinned(
    wdbc: Problem, public_rows: LabelledRows
) -> None:
    parts = split(wdbc.split, public_dataset(wdbc, public_rows))
    folds = assign_folds(parts.train.keys, parts.train.positive, wdbc.selection)

    for key, side, expected in SIDES:
        assert (key in parts.train.keys, key in parts.holdout.keys) == (
            side == "train",
            side == "holdout",
        )
        if side == "train":
            assert tuple(folds[:3, parts.train.keys.index(key)]) == expected, key


def test_all_sides_and_folds_of_public_rows_are_pinned(
    wdbc: Problem, public_rows: LabelledRows
) -> None:
    dataset = public_dataset(wdbc, public_rows.take(np.argsort(public_rows.keys).tolist()))
    parts = split(wdbc.split, dataset, wdbc.near_twins)
    folds = assign_folds(parts.train.keys, parts.train.positive, wdbc.selection)

    lines = [
        f"{key} train {' '.join(map(str, folds[:, row]))}\n"
        for row, key in enumerate(parts.train.keys)
    ]
    lines += [f"{key} holdout\n" for key in parts.holdout.keys]
    assert hashlib.sha256("".join(sorted(lines)).encode()).hexdigest() == (
        "e374a47912a0c2ae37a63740b3bd37efec85f31a54792cb58d096a2fec756e10"
    )


def test_positions_are_pinned() -> None:
    assert hash_position("wdbc-5", "6060514da770a644d4636684") == 0.4881910887509717
    assert hash_position("salt", "key") == 0.2901372090905108


def test_a_row_exactly_at_the_share_is_a_train_row(wdbc: Problem) -> None:
    rows = dataset_of([1, 2])
    share = hash_position(wdbc.split.salt, rows.keys[0])
    at_the_row = replace(wdbc, split=replace(wdbc.split, holdout_share=share))

    assert rows.keys[0] in split(at_the_row.split, rows).train.keys


def test_an_empty_dataset_has_two_empty_sides(wdbc: Problem) -> None:
    parts = split(wdbc.split, dataset_of([]))

    assert (len(parts.train), len(parts.holdout)) == (0, 0)


def test_a_dataset_is_divided_once_and_its_arrays_are_read_only(wdbc: Problem) -> None:
    rows = dataset_of([1, 2, 3])
    parts = split(wdbc.split, rows)

    assert split(wdbc.split, rows) is parts
    for side in (parts.train, parts.holdout):
        for array in (side.values, side.positive):
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0


@given(NUMBERS, NUMBERS)
def test_adding_rows_never_moves_a_row(few: list[int], more: list[int]) -> None:
    wdbc = get_problem("wdbc")
    before = split(wdbc.split, dataset_of(few))
    after = split(wdbc.split, dataset_of(sorted({*few, *more})))

    assert set(before.train.keys) <= set(after.train.keys)
    assert set(before.holdout.keys) <= set(after.holdout.keys)


@given(NUMBERS)
def test_every_row_is_on_one_side_with_its_own_values_and_label(numbers: list[int]) -> None:
    parts = split(get_problem("wdbc").split, dataset_of(numbers))

    assert len(parts.train) + len(parts.holdout) == len(numbers)
    for part in (parts.train, parts.holdout):
        assert part.keys == tuple(sorted(part.keys))
        for key, value, positive in zip(part.keys, part.values[:, 0], part.positive, strict=True):
            assert key == row_key([value])
            assert positive == int(value) % 2


def test_share_of_the_holdout_is_that_of_the_policy(wdbc: Problem) -> None:
    wider = replace(wdbc, split=replace(wdbc.split, holdout_share=0.7))

    narrow, wide = (split(p.split, dataset_of(list(range(5000)))) for p in (wdbc, wider))

    assert abs(len(narrow.holdout) / 5000 - 0.2) < 0.02
    assert abs(len(wide.holdout) / 5000 - 0.7) < 0.02
    assert set(narrow.holdout.keys) < set(wide.holdout.keys)


def test_another_salt_gives_another_holdout(wdbc: Problem) -> None:
    salted = replace(wdbc, split=replace(wdbc.split, salt="other"))
    rows = dataset_of(list(range(200)))

    assert split(wdbc.split, rows).holdout.keys != split(salted.split, rows).holdout.keys


@given(st.text(max_size=8), st.text(max_size=8))
def test_position_lies_in_the_unit_interval(salt: str, key: str) -> None:
    assert 0.0 <= hash_position(salt, key) < 1.0


def part_of(*pairs: tuple[str, float]) -> SplitSide:
    keys, values = zip(*pairs, strict=True)
    return SplitSide(keys, np.array(values).reshape(-1, 1), np.zeros(len(keys), dtype=np.int8))


def test_a_key_on_both_sides_is_an_overlap() -> None:
    with pytest.raises(SplitOverlap) as caught:
        check_split(part_of(("a", 1.0), ("b", 2.0)), part_of(("b", 3.0), ("c", 4.0)))

    assert caught.value.keys == ("b",)
    assert caught.value.message == "1 row in both train and holdout."
    assert caught.value.remedy == "Do not train on this dataset; make a new snapshot."


def test_all_overlapping_rows_are_listed_in_order() -> None:
    with pytest.raises(SplitOverlap) as caught:
        check_split(part_of(("c", 1.0), ("a", 2.0)), part_of(("a", 3.0), ("c", 4.0)))

    assert caught.value.keys == ("a", "c")


def test_the_same_values_under_two_keys_are_an_overlap() -> None:
    with pytest.raises(SplitOverlap) as caught:
        check_split(part_of(("a", 1.0)), part_of(("b", 1.0)))

    assert caught.value.keys == (row_key([1.0]),)


def test_split_refuses_a_dataset_with_the_same_values_under_two_keys(wdbc: Problem) -> None:
    share = wdbc.split.holdout_share
    sides = {hash_position(wdbc.split.salt, key) < share: key for key in map(str, range(50))}
    dataset = Dataset(
        "0" * 16, (sides[True], sides[False]), ("", ""), np.ones((2, 1)), np.zeros(2, np.int8)
    )

    with pytest.raises(SplitOverlap):
        split(wdbc.split, dataset)


def test_a_row_is_on_the_side_of_its_group(wdbc: Problem) -> None:
    rows = dataset_of(list(range(100)))
    names = tuple(f"group {number}" for number in range(100))
    grouped = replace(rows, groups=names)

    parts = split(wdbc.split, grouped)

    share = wdbc.split.holdout_share
    wanted = [
        key
        for key, name in zip(rows.keys, names, strict=True)
        if hash_position(wdbc.split.salt, name) < share
    ]
    assert list(parts.holdout.keys) == wanted
    assert wanted != list(split(wdbc.split, rows).holdout.keys)


def test_near_twins_on_both_sides_are_an_overlap() -> None:
    policy = NearTwinPolicy(relative=0.01, absolute=0.01)

    with pytest.raises(SplitOverlap) as caught:
        check_split(part_of(("a", 1.0), ("b", 2.0)), part_of(("c", 2.01), ("d", 3.0)), policy)

    assert caught.value.keys == ("b",)
    check_split(part_of(("a", 1.0), ("b", 2.0)), part_of(("c", 2.05), ("d", 3.0)), policy)
