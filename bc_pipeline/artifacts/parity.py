"""Proof that an exported graph says what the fitted estimator says, where that is hardest."""

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
# Halvings between a positive and a negative row: they end within about 1e-9 of the
# threshold, still wide of the 1e-15 by which scikit-learn differs from itself.
_HALVINGS = 30
_SINGLES = 64


def check_parity(
    estimator: Any, onnx_bytes: bytes, values: np.ndarray, threshold: float, seed: int
) -> Parity:
    """Compare exported and fitted probabilities on rows made to bring out a difference.

    The rows are the real ones; the same with jitter of three sizes; for trees, real rows
    moved onto the thresholds of the nodes they pass, exactly and to both sides by the
    smallest step; and pairs of rows that lie on either side of the decision threshold,
    next to it. Some are asked one at a time too.

    Parameters
    ----------
    estimator : fitted scikit-learn classifier
    onnx_bytes : bytes
        Of `export_onnx`.
    values : array of float64, shape (n, n_features)
    threshold : float
        Of the decision.
    seed : int

    Returns
    -------
    Parity
        `worst_difference` is 1 where the graph answered with something that is no number.

    Raises
    ------
    ModelError
        Where ONNX Runtime does not take the graph.
    """
    session = make_session(onnx_bytes)

    def exported_of(rows: np.ndarray) -> np.ndarray:
        probability: np.ndarray = session.run([OUTPUT], {INPUT: rows})[0]
        return probability

    rng = np.random.default_rng(seed)
    rows = np.concatenate(
        [
            values,
            *(values * (1 + size * rng.standard_normal(values.shape)) for size in _JITTER),
            _rows_on_tree_thresholds(estimator, values, rng),
            _rows_near_threshold(exported_of, values, threshold, rng),
        ]
    )
    singles = rng.choice(len(rows), min(_SINGLES, len(rows)), replace=False)
    exported = np.concatenate([exported_of(rows), *(exported_of(rows[[row]]) for row in singles)])
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
    """Rows that stand on a node's threshold, and one float32 step to either side of it."""
    trees = [
        tree.tree_
        for tree in np.ravel(getattr(estimator, "estimators_", []))
        if hasattr(tree, "tree_")
    ]
    probes = [np.empty((0, values.shape[1]))]
    for tree in trees:
        # Column `node` holds the rows that pass it: only they can be moved by its threshold.
        passing = tree.decision_path(values.astype(np.float32)).tocsc()
        counts = np.diff(passing.indptr)
        nodes = np.flatnonzero((tree.children_left != -1) & (counts > 0))
        nodes = rng.permutation(nodes)[: -(-_TREE_NODES // len(trees))]
        chosen = passing.indices[passing.indptr[nodes] + rng.integers(counts[nodes])]
        exact = tree.threshold[nodes]
        single = exact.astype(np.float32)
        below, above = (np.nextafter(single, np.float32(end)) for end in (-np.inf, np.inf))
        # The two in the middle round to one float32: a graph that does not round tells them
        # apart.
        for moved in (below, exact, np.nextafter(exact, np.inf), above):
            probe = values[chosen]
            probe[np.arange(len(nodes)), tree.feature[nodes]] = moved
            probes.append(probe)
    return np.concatenate(probes)


def _rows_near_threshold(
    exported_of: Callable[[np.ndarray], np.ndarray],
    values: np.ndarray,
    threshold: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Both ends of segments between called and not called rows, halved again and again.

    The graph is asked, which is many times faster than a forest of scikit-learn's: where
    the two disagree about the border, the rows at the graph's border show it as well.
    """
    called = exported_of(values) > threshold
    if called.all() or not called.any():
        return values[:0]
    high = values[rng.choice(np.flatnonzero(called), _PAIRS)]
    low = values[rng.choice(np.flatnonzero(~called), _PAIRS)]
    for _ in range(_HALVINGS):
        middle = (high + low) / 2
        up = (exported_of(middle) > threshold)[:, None]
        high, low = np.where(up, middle, high), np.where(up, low, middle)
    return np.concatenate([high, low])
