"""Probabilities of rows from models that were fitted to the rows before them.

Rows are ordered by arrival. They form blocks, and the rows of a block are
predicted by one model, fitted to all earlier blocks. Where a block ends depends on the rows before
it alone, so later rows change no earlier probability: each row is new once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bc_pipeline.data.split import SplitSide
from bc_pipeline.problems.base import Candidate
from bc_pipeline.training.fit import fit, positive_probability

FIRST_ROWS = 100
"""Fewer rows than these are fitted to, and not predicted."""
FIRST_POSITIVE = 20
"""Rows of each class that the first model has."""
GROWTH = 0.1
"""Size of a block, as a share of the rows before it."""


def prequential_probability(
    candidate: Candidate, seed: int, rows: SplitSide, threads: int = 1
) -> np.ndarray:
    """Probability of the positive class for each row, by the model of the rows before its block.

    Parameters
    ----------
    rows : SplitSide
        In the order in which they came.

    Returns
    -------
    array of float64, shape (n,)
        NaN for the rows of the first block, which no model predicts.

    Raises
    ------
    DegenerateModel
        Where a fit gave constant or non-finite probabilities.

    References
    ----------
    A. P. Dawid, "Statistical theory: the prequential approach", Journal of the Royal Statistical
    Society A 147, 1984.
    """
    probability = np.full(len(rows), np.nan)
    for start, end in _blocks(rows.positive):
        earlier = rows.take(np.arange(start))
        estimator = fit(candidate, seed, earlier.values, earlier.positive, threads)
        # Earlier rows are predicted too: a constant model shows on them, also where the block is
        # a single row.
        predicted = positive_probability(candidate, estimator, rows.values[:end])
        probability[start:end] = predicted[start:]
    return probability


def _blocks(positive: np.ndarray) -> Iterator[tuple[int, int]]:
    """First row and end of each predicted block."""
    of_each_class = np.minimum(np.cumsum(positive), np.cumsum(1 - positive))
    enough = np.flatnonzero(of_each_class >= FIRST_POSITIVE)
    if not enough.size:
        return
    start = max(FIRST_ROWS, int(enough[0]) + 1)
    while start < len(positive):
        end = start + max(1, round(GROWTH * start))
        yield start, min(end, len(positive))
        start = end
