from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bc_pipeline.errors import DataError
from bc_pipeline.problems.policies import SelectionPolicy
from bc_pipeline.training.folds import assign_folds

if TYPE_CHECKING:
    from bc_pipeline.data.split import SplitSide

POLICY = SelectionPolicy(folds=5, repeats=4, seed=7, sensitivity_target=0.9, noise_alpha=0.05)


def test_every_fold_is_stratified_and_of_equal_size(rows: SplitSide) -> None:
    folds = assign_folds(rows.keys, rows.positive, POLICY)

    assert folds.shape == (4, 120)
    for repeat in folds:
        for part in (repeat, repeat[rows.positive == 1], repeat[rows.positive == 0]):
            sizes = np.bincount(part, minlength=5)
            assert sizes.max() - sizes.min() <= 1


def test_a_row_keeps_its_fold_in_whatever_order_the_rows_come(rows: SplitSide) -> None:
    order = np.random.default_rng(1).permutation(len(rows.keys))

    straight = assign_folds(rows.keys, rows.positive, POLICY)
    shuffled = assign_folds([rows.keys[row] for row in order], rows.positive[order], POLICY)

    np.testing.assert_array_equal(shuffled, straight[:, order])


def test_other_repeats_and_seeds_give_other_folds(rows: SplitSide) -> None:
    folds = assign_folds(rows.keys, rows.positive, POLICY)
    other = assign_folds(rows.keys, rows.positive, replace(POLICY, seed=8))

    drawn = [*folds, *other]
    for index, one in enumerate(drawn):
        for another in drawn[index + 1 :]:
            # Independent deals into 5 folds agree on about a fifth of the rows.
            assert np.mean(one == another) < 0.5


def test_the_assignment_is_pinned() -> None:
    """Any other deal would silently make stored results of the same name something else."""
    policy = replace(POLICY, folds=2, repeats=2)

    folds = assign_folds(tuple("abcdef"), np.array([1, 1, 1, 0, 0, 0]), policy)

    assert folds.tolist() == [[0, 0, 1, 0, 1, 1], [0, 0, 1, 1, 1, 0]]


@pytest.mark.parametrize("label", [0, 1])
def test_a_class_smaller_than_the_folds_is_refused(label: int) -> None:
    positive = np.array([label] * 4 + [1 - label] * 20)

    with pytest.raises(DataError, match="has 4 train rows"):
        assign_folds([str(number) for number in range(24)], positive, POLICY)
