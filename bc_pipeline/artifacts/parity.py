"""Compares an exported graph with its estimator, on rows chosen to show a difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bc_pipeline.artifacts.evidence import Parity
from bc_pipeline.artifacts.predictors import INPUT, OUTPUT, make_session

# Relative sizes of the jitter: rounding, measurement noise, another patient.
_JITTER = (1e-6, 1e-3, 0.1)
_TREE_NODES = 10_000
_PAIRS = 64
# Bisection steps between a positive and a negative row: they end within about 1e-9 of the
# threshold, far more than the 1e-15 by which scikit-learn differs from itself.
_BISECTIONS = 30
_SINGLES = 64


def check_parity(
    estimator: Any, onnx_bytes: bytes, values: np.ndarray, threshold: float, seed: int
) -> Parity:
    """Compare exported and fitted probabilities on rows chosen to show a difference.

    The rows are the real ones; the same with jitter of three sizes; for trees, real rows
    with a value changed to the threshold of a node they pass, and to the next number on
    either side; and pairs of rows just below and above the decision threshold. Some are
    predicted one at a time too.

    Parameters
    ----------
    estimator : fitted scikit-learn classifier
    onnx_bytes : bytes
        As returned by `export_onnx`.
    values : array of float64, shape (n, n_features)
    threshold : float
        Decision threshold of the version.
    seed : int

    Returns
    -------
    Parity
        `worst_difference` is 1 where the graph returned NaN or infinity.

    Raises
    ------
    ModelError
        Where ONNX Runtime cannot run the graph.
    """
    session = make_session(onnx_bytes)

    def predict_exported(rows: np.ndarray) -> np.ndarray:
        probability: np.ndarray = session.run([OUTPUT], {INPUT: rows})[0]
        return probability

    rng = np.random.default_rng(seed)
    rows = np.concatenate(
        [
            values,
            *(values * (1 + size * rng.standard_normal(values.shape)) for size in _JITTER),
            _rows_on_tree_thresholds(estimator, values, rng),
            _rows_near_threshold(predict_exported, values, threshold, rng),
        ]
    )
    singles = rng.choice(len(rows), min(_SINGLES, len(rows)), replace=False)
    exported = np.concatenate(
        [predict_exported(rows), *(predict_exported(rows[[row]]) for row in singles)]
    )
    fitted: np.ndarray = estimator.predict_proba(rows)[:, 1]
    fitted = np.concatenate([fitted, fitted[singles]])
    difference = np.where(np.isfinite(exported), np.abs(exported - fitted), 1.0)
    return Parity(
        rows=len(rows),
        worst_difference=float(difference.max()),
        flips=int(((exported > threshold) != (fitted > threshold)).sum()),
    )


def _rows_on_tree_thresholds(
    estimator: Any, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Rows with a value on a node's threshold, and one float32 step to either side of it."""
    trees = [
        tree.tree_
        for tree in np.ravel(getattr(estimator, "estimators_", []))
        if hasattr(tree, "tree_")
    ]
    probes = [np.empty((0, values.shape[1]))]
    for tree in trees:
        # Column `node` has the rows that pass it: only they depend on its threshold.
        passing = tree.decision_path(values.astype(np.float32)).tocsc()
        counts = np.diff(passing.indptr)
        nodes = np.flatnonzero((tree.children_left != -1) & (counts > 0))
        nodes = rng.permutation(nodes)[: -(-_TREE_NODES // len(trees))]
        chosen = passing.indices[passing.indptr[nodes] + rng.integers(counts[nodes])]
        exact = tree.threshold[nodes]
        single = exact.astype(np.float32)
        below, above = (np.nextafter(single, np.float32(end)) for end in (-np.inf, np.inf))
        # The two in the middle round to one float32, so only a graph that does not round them
        # treats them differently.
        for moved in (below, exact, np.nextafter(exact, np.inf), above):
            probe = values[chosen]
            probe[np.arange(len(nodes)), tree.feature[nodes]] = moved
            probes.append(probe)
    return np.concatenate(probes)


def _rows_near_threshold(
    predict_exported: Callable[[np.ndarray], np.ndarray],
    values: np.ndarray,
    threshold: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Pairs of rows next to the decision threshold, found by bisection.

    The graph is evaluated, which is many times faster than a forest of scikit-learn's: if
    their borders differ, rows at the graph's border show it too.
    """
    called = predict_exported(values) > threshold
    if called.all() or not called.any():
        return values[:0]
    high = values[rng.choice(np.flatnonzero(called), _PAIRS)]
    low = values[rng.choice(np.flatnonzero(~called), _PAIRS)]
    for _ in range(_BISECTIONS):
        middle = (high + low) / 2
        up = (predict_exported(middle) > threshold)[:, None]
        high, low = np.where(up, middle, high), np.where(up, low, middle)
    return np.concatenate([high, low])
