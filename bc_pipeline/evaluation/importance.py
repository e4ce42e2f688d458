"""Permutation importance of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bc_pipeline.artifacts.importance import FeatureImportance, Importance
from bc_pipeline.errors import EvidenceMismatch


def permutation_importance(
    predict: Callable[[np.ndarray], np.ndarray],
    values: np.ndarray,
    positive: np.ndarray,
    names: Sequence[str],
    *,
    seed: int,
    shuffles: int = 20,
) -> Importance:
    """Rise of the Brier score when one feature is shuffled, for each feature.

    The ten measures and their three statistics are strongly correlated. A model that loses one
    of several correlated features can use the others, so a low value does not mean that the
    feature has no information (Breiman, 2001; Strobl et al., 2008).

    `sklearn.inspection.permutation_importance` gives other figures, because it shuffles all
    features with one stream of random numbers, and takes n_features * shuffles calls of
    `predict` instead of n_features.

    Parameters
    ----------
    predict : callable
        Values, shape (m, n_features), to probabilities of the positive class, shape (m,).
    values : array of float64, shape (n, n_features)
        One row or more.
    positive : array of int, shape (n,)
    names : sequence of str, length n_features
    seed : int
        The shuffles of a feature depend on it and on the feature's index alone.

    Raises
    ------
    EvidenceMismatch
        Where the numbers of rows, labels and names differ.
    """
    if values.shape != (len(positive), len(names)) or len(positive) == 0:
        raise EvidenceMismatch(
            f"{values.shape} values do not fit {len(positive)} labels and {len(names)} features."
        )
    baseline = float(np.mean((predict(values) - positive) ** 2))
    importances = []
    for column, name in enumerate(names):
        draw = np.random.default_rng([seed, column])
        shuffled = np.tile(values, (shuffles, 1, 1))
        shuffled[:, :, column] = draw.permuted(shuffled[:, :, column], axis=1)
        answers = predict(shuffled.reshape(-1, len(names))).reshape(shuffles, -1)
        rises = np.mean((answers - positive) ** 2, axis=1) - baseline
        importances.append(FeatureImportance(name, float(rises.mean()), float(rises.std())))
    return Importance(
        rows=len(positive),
        shuffles=shuffles,
        seed=seed,
        brier=baseline,
        features=tuple(sorted(importances, key=lambda entry: (-entry.mean, entry.feature))),
    )
