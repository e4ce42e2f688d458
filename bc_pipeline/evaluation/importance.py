"""Which features a model leans on: permutation importance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.errors import EvidenceMismatch

IMPORTANCE = "importance.json"


class FeatureImportance(Record, frozen=True):
    """How much worse the Brier score gets when one feature is shuffled.

    Attributes
    ----------
    mean, deviation : float
        Over the shuffles; the standard deviation tells chance from reliance.
    """

    feature: str
    mean: float
    deviation: float


class Importance(Record, frozen=True, kw_only=True):
    """Permutation importance on the holdout; the format of ``importance.json``.

    Attributes
    ----------
    brier : float
        Of the rows as they are.
    features : tuple of FeatureImportance
        Most important first.
    """

    format: int = 1
    rows: int
    shuffles: int
    seed: int
    brier: float
    features: tuple[FeatureImportance, ...]


def permutation_importance(
    predict: Callable[[np.ndarray], np.ndarray],
    values: np.ndarray,
    positive: np.ndarray,
    names: Sequence[str],
    *,
    seed: int,
    shuffles: int = 20,
) -> Importance:
    """Shuffle one feature at a time and see what that does to the Brier score.

    The ten measures and their three statistics are strongly correlated. A model that loses
    one of several correlated features leans on the others, so a low value means "not needed
    beside the rest", not "without meaning" (Breiman, 2001; Strobl et al., 2008).

    Parameters
    ----------
    predict : callable
        Values, shape (m, n_features), to probabilities of the positive class, shape (m,).
    values : array of float64, shape (n, n_features)
        One row or more.
    positive : array of int, shape (n,)
    names : sequence of str, length n_features
    seed : int
        The shuffles of a feature depend on it and on the feature's place alone.

    Raises
    ------
    EvidenceMismatch
        Where rows, labels and names do not fit together.
    """
    if values.shape != (len(positive), len(names)) or len(positive) == 0:
        raise EvidenceMismatch(
            f"{values.shape} values do not fit {len(positive)} labels and {len(names)} features."
        )
    baseline = float(np.mean((predict(values) - positive) ** 2))
    found = []
    for column, name in enumerate(names):
        draw = np.random.default_rng([seed, column])
        shuffled = np.tile(values, (shuffles, 1, 1))
        shuffled[:, :, column] = draw.permuted(shuffled[:, :, column], axis=1)
        answers = predict(shuffled.reshape(-1, len(names))).reshape(shuffles, -1)
        rises = np.mean((answers - positive) ** 2, axis=1) - baseline
        found.append(FeatureImportance(name, float(rises.mean()), float(rises.std())))
    return Importance(
        rows=len(positive),
        shuffles=shuffles,
        seed=seed,
        brier=baseline,
        features=tuple(sorted(found, key=lambda entry: (-entry.mean, entry.feature))),
    )
