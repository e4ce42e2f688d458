"""Which rows train and which are held out: a matter of the row alone.

A row's side follows from its key and the problem's pinned salt, so it never changes
when other rows come or go, and no order of the file can leak into it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bc_pipeline.data.rows import row_keys
from bc_pipeline.data.snapshot import Dataset
from bc_pipeline.errors import SplitOverlap
from bc_pipeline.problems.base import Problem

if TYPE_CHECKING:
    import numpy as np

_HEX_DIGITS = 13  # 52 bits: exact in a float


@dataclass(frozen=True, eq=False)
class Part:
    """One side of a split, sorted by key.

    Attributes
    ----------
    keys : tuple of str, length n
    values : array of float64, shape (n, n_features)
    positive : array of int8, shape (n,)
        1 where the row is of the positive class.
    """

    keys: tuple[str, ...]
    values: np.ndarray
    positive: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, eq=False)
class Split:
    """Train rows for every choice, holdout rows for the verdict only."""

    train: Part
    holdout: Part


def hash_position(salt: str, key: str) -> float:
    """Where a row lies in the hash space, from 0 (included) to 1 (excluded)."""
    digits = hashlib.sha256((salt + key).encode()).hexdigest()[:_HEX_DIGITS]
    return int(digits, 16) / float(16**_HEX_DIGITS)


def split(problem: Problem, dataset: Dataset) -> Split:
    """Part a dataset by the problem's split policy.

    Raises
    ------
    SplitOverlap
        Where a row stands on both sides.
    """
    import numpy as np

    policy = problem.split
    held_out = np.array(
        [hash_position(policy.salt, key) < policy.holdout_share for key in dataset.keys],
        dtype=bool,
    )
    train, holdout = (
        Part(
            keys=tuple(dataset.keys[row] for row in np.flatnonzero(side)),
            values=dataset.values[side],
            positive=dataset.positive[side],
        )
        for side in (~held_out, held_out)
    )
    check_split(train, holdout)
    return Split(train, holdout)


def check_split(train: Part, holdout: Part) -> None:
    """Make sure that no row stands on both sides, by key and by the values themselves.

    The values are hashed again: a wrong key must not let a train row into the holdout.

    Raises
    ------
    SplitOverlap
        With the keys of every such row.
    """
    train_keys = {*train.keys, *row_keys(train.values)}
    holdout_keys = {*holdout.keys, *row_keys(holdout.values)}
    shared = tuple(sorted(train_keys & holdout_keys))
    if shared:
        raise SplitOverlap(
            f"{len(shared)} rows stand both in train and in holdout.",
            "Do not train on this dataset; make a new snapshot.",
            keys=shared,
        )
