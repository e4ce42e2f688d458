"""Exporters of forests and boosted trees.

The usual converter, skl2onnx, stores tree thresholds in single precision even for double inputs,
which changes the probabilities of forests by up to 0.08 and flips calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bc_pipeline.artifacts.exporters.graph import Graph
from bc_pipeline.artifacts.exporters.unsupported import Unsupported

# Values of TreeEnsemble's attributes (ai.onnx.ml, version 5).
_BRANCH_LEQ = 0
_AVERAGE, _SUM = 0, 1


def forest(graph: Graph, estimator: Any, values: str) -> str:
    """``RandomForestClassifier``: the mean of the shares in the leaves."""
    trees = [tree.tree_ for tree in estimator.estimators_]
    # Since scikit-learn 1.3 a leaf has the share of each class.
    return _trees(graph, values, trees, [tree.value[:, 0, 1] for tree in trees], _AVERAGE)


def boosting(graph: Graph, estimator: Any, values: str) -> str:
    """``GradientBoostingClassifier`` with log loss."""
    from sklearn.dummy import DummyClassifier

    if estimator.loss != "log_loss" or type(estimator.init_) is not DummyClassifier:
        raise Unsupported
    trees = [tree.tree_ for tree in estimator.estimators_[:, 0]]
    leaves = [estimator.learning_rate * tree.value[:, 0, 0] for tree in trees]
    # The first guess of every row is the log odds of the train rows.
    prior = estimator.init_.class_prior_[1]
    start = graph.constant(np.log(prior / (1.0 - prior)))
    return graph.sigmoid(graph.op("Add", _trees(graph, values, trees, leaves, _SUM), start))


def _trees(
    graph: Graph, values: str, trees: Sequence[Any], leaves: Sequence[np.ndarray], aggregate: int
) -> str:
    """One TreeEnsemble of scikit-learn's trees.

    scikit-learn compares float32 values with float64 thresholds; so does the graph, which
    rounds the row to float32 and compares in double. A missing value takes the branch that the
    tree has for it.
    """
    tables: list[dict[str, np.ndarray]] = []
    roots: list[int] = [0]
    weights: list[np.ndarray] = []
    for tree, leaf_values in zip(trees, leaves, strict=True):
        tables.append(_node_table(tree, roots[-1], sum(len(leaf) for leaf in weights)))
        roots.append(roots[-1] + len(tables[-1]["nodes_splits"]))
        weights.append(leaf_values[tree.children_left == -1])
    nodes = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    splits, leaf_weights = nodes.pop("nodes_splits"), np.concatenate(weights)
    modes = np.full(len(splits), _BRANCH_LEQ, dtype=np.uint8)
    if not graph.may_be_missing:
        del nodes["nodes_missing_value_tracks_true"]
    ensemble = graph.op(
        "TreeEnsemble",
        graph.cast(graph.cast(values, "FLOAT"), "DOUBLE"),
        domain="ai.onnx.ml",
        aggregate_function=aggregate,
        n_targets=1,
        post_transform=0,
        tree_roots=roots[:-1],
        nodes_modes=modes,
        nodes_splits=splits,
        **{name: column.astype(int).tolist() for name, column in nodes.items()},
        leaf_targetids=[0] * len(leaf_weights),
        leaf_weights=leaf_weights,
    )
    return graph.op("Squeeze", ensemble, graph.constant([1], np.int64))


def _node_table(tree: Any, first_node: int, first_leaf: int) -> dict[str, np.ndarray]:
    """The inner nodes of a tree by attribute of TreeEnsemble, which numbers leaves apart."""
    is_leaf = tree.children_left == -1
    index = np.where(is_leaf, first_leaf + np.cumsum(is_leaf), first_node + np.cumsum(~is_leaf)) - 1
    # The format has no tree of a single leaf: its node becomes one whose branches, -1, index it.
    nodes = np.flatnonzero(~is_leaf) if tree.node_count > 1 else np.zeros(1, dtype=int)
    left, right = tree.children_left[nodes], tree.children_right[nodes]
    return {
        "nodes_featureids": np.where(is_leaf[nodes], 0, tree.feature[nodes]),
        "nodes_splits": np.where(is_leaf[nodes], 0.0, tree.threshold[nodes]),
        "nodes_truenodeids": index[left],
        "nodes_trueleafs": is_leaf[left],
        "nodes_falsenodeids": index[right],
        "nodes_falseleafs": is_leaf[right],
        "nodes_missing_value_tracks_true": tree.missing_go_to_left[nodes],
    }
