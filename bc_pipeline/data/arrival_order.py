"""The order in which the rows of a dataset came."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.batches import list_batches, read_batch
from bc_pipeline.errors import EvidenceMismatch, counted
from bc_pipeline.problems.base import Problem


def arrival_order(
    problem: Problem, store: Store, batches: Sequence[str], keys: Sequence[str]
) -> np.ndarray:
    """Positions of the rows in the order of the batches that first had them, then by key.

    Parameters and errors are those of `first_batches`.

    Returns
    -------
    array of int, shape (n,)
    """
    _, first = first_batches(problem, store, batches, keys)
    return np.array(sorted(range(len(keys)), key=lambda row: (first[row], keys[row])))


def first_batches(
    problem: Problem, store: Store, batches: Sequence[str], keys: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """The batches as they were made, and for each row the number of the first that has it.

    Batches are ordered as they were made, so that a file of an earlier date that comes later does
    not change the order of the rows before.

    Parameters
    ----------
    batches : sequence of str
        Those of the dataset.
    keys : sequence of str, length n

    Returns
    -------
    tuple of str, and array of int, shape (n,)

    Raises
    ------
    ArtifactCorrupt
        Where a batch's bytes differ from its document.
    EvidenceMismatch
        Where a row is in none of the batches.
    """
    named = set(batches)
    made = sorted(
        (batch for batch in list_batches(store) if batch.batch in named),
        key=lambda batch: (batch.number, batch.arrival, batch.batch),
    )
    first: dict[str, int] = {}
    for number, batch in enumerate(made):
        for key in read_batch(problem, store, batch).keys:
            first.setdefault(key, number)
    missing = sum(key not in first for key in keys)
    if missing:
        raise EvidenceMismatch(
            f"{counted(missing, 'row of the dataset is', 'rows of the dataset are')} in none of "
            "its batches.",
            "Take a new snapshot, and train on it.",
        )
    numbers = np.array([first[key] for key in keys], dtype=np.int64)
    return tuple(batch.batch for batch in made), numbers
