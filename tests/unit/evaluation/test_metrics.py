from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from bc_pipeline.evaluation.bootstrap import row_weights
from bc_pipeline.evaluation.metrics import METRICS, compute_metrics

COST = 1 / 11
# Coarse probabilities, so that ties and values on the threshold come up.
ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda n: n / 20)), min_size=2, max_size=40
)


def of_sklearn(positive: np.ndarray, probability: np.ndarray, threshold: float) -> dict:
    """The same metrics, row by row, from scikit-learn."""
    called = probability > threshold
    both = 0 < positive.sum() < positive.size
    tn, fp, fn, tp = oracle.confusion_matrix(positive, called, labels=[0, 1]).ravel()
    index = np.minimum((probability * 10).astype(int), 9)
    ece = sum(
        abs(probability[index == b].mean() - positive[index == b].mean()) * (index == b).mean()
        for b in np.unique(index)
    )
    return {
        "accuracy": oracle.accuracy_score(positive, called),
        "precision": oracle.precision_score(positive, called) if tp + fp else math.nan,
        "sensitivity": oracle.recall_score(positive, called) if tp + fn else math.nan,
        "specificity": oracle.recall_score(positive, called, pos_label=0) if tn + fp else math.nan,
        "f1": oracle.f1_score(positive, called) if tp + fp + fn else math.nan,
        "f1_negative": oracle.f1_score(positive, called, pos_label=0) if tn + fp + fn else math.nan,
        "roc_auc": oracle.roc_auc_score(positive, probability) if both else math.nan,
        "brier": np.mean((probability - positive) ** 2),
        "calibration_error": ece,
        "net_benefit": tp / positive.size - fp / positive.size * COST / (1 - COST),
    }


@settings(max_examples=20, deadline=None)
@given(ROWS, st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), st.integers(0, 2**32 - 1))
def test_every_metric_of_every_resample_is_scikit_learns(
    rows: list[tuple[int, float]], threshold: float, seed: int
) -> None:
    positive = np.array([label for label, _ in rows])
    probability = np.array([p for _, p in rows])
    weights = np.vstack([np.ones(len(rows)), row_weights(len(rows), 2, seed)])
    found = compute_metrics(weights, positive, probability, threshold, COST)
    assert tuple(found) == METRICS
    for number, weight in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(len(rows)), weight)
        expected = of_sklearn(positive[drawn], probability[drawn], threshold)
        for name in METRICS:
            assert found[name][number] == pytest.approx(expected[name], abs=1e-12, nan_ok=True)
