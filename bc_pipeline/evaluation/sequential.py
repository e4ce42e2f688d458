"""Evidence for another recipe from rows in the order in which they came."""

from __future__ import annotations

import numpy as np

from bc_pipeline.artifacts.evidence import SequentialEvidence
from bc_pipeline.betting_test import log_e_values


def sequential_evidence(
    positive: np.ndarray, champion: np.ndarray, challenger: np.ndarray, recipes: int
) -> SequentialEvidence:
    """Compare two recipes on the rows that the models of both predicted.

    Parameters
    ----------
    positive : array of int, shape (n,)
    champion, challenger : array of float64, shape (n,)
        Prequential probabilities of the same rows in the same order; NaN where there is none.
    recipes : int
        Number of recipes that are compared with the champion's.
    """
    known = ~(np.isnan(champion) | np.isnan(challenger))
    if not known.any():
        return SequentialEvidence(
            rows=0, champion=None, challenger=None, log_e=0.0, recipes=recipes
        )
    old, new = (
        (probability[known] - positive[known]) ** 2 for probability in (champion, challenger)
    )
    return SequentialEvidence(
        rows=int(known.sum()),
        champion=float(old.mean()),
        challenger=float(new.mean()),
        log_e=float(log_e_values(old - new)[-1]),
        recipes=recipes,
    )
