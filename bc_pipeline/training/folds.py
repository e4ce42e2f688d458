"""The folds of cross-validation, the same for every candidate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import count

import numpy as np

from bc_pipeline.errors import TooFewRows, counted
from bc_pipeline.problems.policies import SelectionPolicy


def require_nested_rows(positive: np.ndarray, folds: int) -> None:
    """Make sure that all folds but one can be cross-validated in as many folds again.

    Parameters
    ----------
    positive : array of int, shape (n,)
    folds : int

    Raises
    ------
    TooFewRows
        Where the smaller class has too few rows.
    """
    smallest = min(int(np.sum(positive == label)) for label in (0, 1))
    needed = next(rows for rows in count(folds) if rows - math.ceil(rows / folds) >= folds)
    if smallest < needed:
        raise TooFewRows(
            f"The smaller class has {counted(smallest, 'train row')}; nested cross-validation in "
            f"{folds} folds needs {needed} or more.",
            "Land more labelled rows.",
            rows=smallest,
            needed=needed,
        )


def assign_folds(keys: Sequence[str], positive: np.ndarray, policy: SelectionPolicy) -> np.ndarray:
    """Assign the rows to stratified folds, for each repeat.

    In each repeat the rows of a class are sorted by ``sha256(seed:repeat:key)`` and assigned
    to the folds in turn. The assignment depends on keys, labels and policy alone, not on the
    order of the rows or the version of a random number generator.

    Parameters
    ----------
    keys : sequence of str, length n
    positive : array of int, shape (n,)
    policy : SelectionPolicy

    Returns
    -------
    array of int8, shape (repeats, n)
        Fold of each row; the sizes of the folds of a repeat differ by one row at most, in
        total and in each class.

    Raises
    ------
    TooFewRows
        Where a class has fewer rows than there are folds.
    """
    smallest = min(int(np.sum(positive == label)) for label in (0, 1))
    if smallest < policy.folds:
        raise TooFewRows(
            f"The smaller class has {counted(smallest, 'train row')}; cross-validation in "
            f"{policy.folds} folds needs {policy.folds} or more.",
            "Land more labelled rows.",
            rows=smallest,
            needed=policy.folds,
        )
    folds = np.empty((policy.repeats, len(keys)), dtype=np.int8)
    for repeat in range(policy.repeats):
        shuffled = sorted(
            range(len(keys)),
            key=lambda row: hashlib.sha256(f"{policy.seed}:{repeat}:{keys[row]}".encode()).digest(),
        )
        # The negative class continues at the fold after the last positive row: sizes stay equal.
        by_class = [row for label in (1, 0) for row in shuffled if positive[row] == label]
        folds[repeat, by_class] = np.arange(len(keys)) % policy.folds
    return folds
