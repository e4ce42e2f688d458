"""Which row is tested in which fold: the same for every candidate."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from bc_pipeline.errors import DataError
from bc_pipeline.problems.base import SelectionPolicy


def assign_folds(keys: Sequence[str], positive: np.ndarray, policy: SelectionPolicy) -> np.ndarray:
    """Deal the rows into stratified folds, anew for each repeat.

    In each repeat the rows of a class are put in the order of
    ``sha256(seed:repeat:key)`` and dealt round the folds, so the assignment follows from
    keys, labels and policy alone: neither the order of the rows nor the library that
    draws random numbers has a part in it.

    Parameters
    ----------
    keys : sequence of str, length n
    positive : array of int, shape (n,)
    policy : SelectionPolicy

    Returns
    -------
    array of int8, shape (repeats, n)
        Fold of each row; the folds of a repeat differ in size, and in each class, by one
        row at most.

    Raises
    ------
    DataError
        Where a class has fewer rows than there are folds.
    """
    smallest = min(int(np.sum(positive == label)) for label in (0, 1))
    if smallest < policy.folds:
        raise DataError(
            f"The smaller class has {smallest} train rows; cross-validation in "
            f"{policy.folds} folds needs {policy.folds} or more."
        )
    folds = np.empty((policy.repeats, len(keys)), dtype=np.int8)
    for repeat in range(policy.repeats):
        shuffled = sorted(
            range(len(keys)),
            key=lambda row: hashlib.sha256(f"{policy.seed}:{repeat}:{keys[row]}".encode()).digest(),
        )
        # One class after the other: where the first stops dealing the second goes on.
        by_class = [row for label in (1, 0) for row in shuffled if positive[row] == label]
        folds[repeat, by_class] = np.arange(len(keys)) % policy.folds
    return folds
