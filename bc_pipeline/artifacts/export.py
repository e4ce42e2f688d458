"""Exports fitted scikit-learn estimators as ONNX graphs in double precision, and as coefficients.

The graphs are built here because the usual converter, skl2onnx, stores tree thresholds in
single precision even for double inputs, which changes the probabilities of forests by up to
0.08 and flips calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bc_pipeline.artifacts.coefficients import Coefficients
from bc_pipeline.artifacts.predictors import INPUT, OUTPUT
from bc_pipeline.errors import ModelError

# Pinned, so that the bytes depend on the estimator alone.
_OPSET = 21
_ML_OPSET = 5
_IR_VERSION = 10

# Values of TreeEnsemble's attributes (ai.onnx.ml, version 5).
_BRANCH_LEQ = 0
_AVERAGE, _SUM = 0, 1


def export_onnx(estimator: Any, n_features: int) -> bytes:
    """Export a fitted estimator as an ONNX graph.

    Parameters
    ----------
    estimator : scikit-learn classifier
        Fitted on 1 for the positive class and 0 for the other. Supported: a pipeline of
        StandardScaler and LogisticRegression; CalibratedClassifierCV (sigmoid, not an
        ensemble) of a pipeline of StandardScaler and SVC with an RBF kernel;
        RandomForestClassifier; GradientBoostingClassifier with log loss.
    n_features : int

    Returns
    -------
    bytes
        A graph from ``features``, double (n, n_features), to ``probability``, double (n,),
        of the positive class. The same estimator gives the same bytes.

    Raises
    ------
    ModelError
        Where the estimator is of another kind.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    if list(getattr(estimator, "classes_", [])) != [0, 1]:
        raise ModelError(
            f"{type(estimator).__name__} is not fitted on the classes 0 and 1, 1 being positive."
        )
    graph = _Graph()
    if isinstance(estimator, RandomForestClassifier):
        probability = _forest(graph, estimator)
    elif isinstance(estimator, GradientBoostingClassifier):
        probability = _boosting(graph, estimator)
    elif isinstance(estimator, CalibratedClassifierCV):
        probability = _calibrated(graph, estimator)
    else:
        scaler, model = _scaled(estimator, LogisticRegression)
        scaled = _scale(graph, scaler)
        score = graph.op("MatMul", scaled, graph.constant(model.coef_[0]))
        probability = _sigmoid(graph, graph.op("Add", score, graph.constant(model.intercept_[0])))
    return graph.to_bytes(probability, n_features)


@dataclass
class _Graph:
    """Collects the nodes and constants of a graph, under numbered names."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    ml: bool = False

    def constant(self, value: Any, kind: type = np.float64) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        array: np.ndarray = np.array(value, dtype=kind, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = f"n{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes)
        )
        self.ml = self.ml or bool(domain)
        return name

    def to_bytes(self, output: str, n_features: int) -> bytes:
        from onnx import TensorProto, checker, helper

        self.nodes.append(helper.make_node("Identity", [output], [OUTPUT], name="answer"))
        double = TensorProto.DOUBLE
        graph = helper.make_graph(
            self.nodes,
            "bc_pipeline",
            [helper.make_tensor_value_info(INPUT, double, [None, n_features])],
            [helper.make_tensor_value_info(OUTPUT, double, [None])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        if self.ml:
            opsets.append(helper.make_opsetid("ai.onnx.ml", _ML_OPSET))
        model = helper.make_model(
            graph, producer_name="bc_pipeline", ir_version=_IR_VERSION, opset_imports=opsets
        )
        checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


# Parts of the graphs ------------------------------------------------------------------------


def _scaled(estimator: Any, kind: type) -> tuple[Any, Any]:
    """Scaler and model of a pipeline of a standard scaler and a model of that kind."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    parts = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else []
    if len(parts) != 2 or type(parts[0]) is not StandardScaler or type(parts[1]) is not kind:
        raise _unsupported(estimator)
    return parts[0], parts[1]


def _unsupported(estimator: Any) -> ModelError:
    from sklearn.pipeline import Pipeline

    steps = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else []
    inside = f" of {', '.join(type(step).__name__ for step in steps)}" if steps else ""
    return ModelError(
        f"{type(estimator).__name__}{inside} has no exact export.",
        "Supported are StandardScaler with LogisticRegression; CalibratedClassifierCV "
        "(method='sigmoid', ensemble=False) of StandardScaler with SVC(kernel='rbf'); "
        "RandomForestClassifier; GradientBoostingClassifier(loss='log_loss').",
    )


def _scale(graph: _Graph, scaler: Any) -> str:
    centred = graph.op("Sub", INPUT, graph.constant(scaler.mean_)) if scaler.with_mean else INPUT
    if not scaler.with_std:
        return centred
    return graph.op("Div", centred, graph.constant(scaler.scale_))


def _sigmoid(graph: _Graph, score: str) -> str:
    """1 / (1 + exp(-score)); where the exponential overflows, the result is 0, as it should be."""
    exponential = graph.op("Exp", graph.op("Neg", score))
    one = graph.constant(1.0)
    return graph.op("Div", one, graph.op("Add", exponential, one))


def _calibrated(graph: _Graph, estimator: Any) -> str:
    """Platt's sigmoid of the decision function of a support vector machine with an RBF kernel.

    The squared distance to a support vector is computed as |x|^2 - 2 x.s + |s|^2, by a matrix
    product, which needs less memory than all differences. Little precision is lost by
    cancellation: standardised features lie near the support vectors, and far from them the
    kernel is zero.
    """
    from sklearn.svm import SVC

    fitted = estimator.calibrated_classifiers_
    if estimator.method != "sigmoid" or len(fitted) != 1:
        raise _unsupported(estimator)
    scaler, machine = _scaled(fitted[0].estimator, SVC)
    if machine.kernel != "rbf":
        raise _unsupported(estimator)
    vectors = np.asarray(machine.support_vectors_, dtype=np.float64)
    scaled = _scale(graph, scaler)
    row_norms = graph.op(
        "ReduceSum", graph.op("Mul", scaled, scaled), graph.constant([1], np.int64), keepdims=1
    )
    cross = graph.op("MatMul", scaled, graph.constant(-2.0 * vectors.T))
    vector_norms = graph.constant((vectors**2).sum(axis=1))
    distance = graph.op("Add", graph.op("Add", row_norms, cross), vector_norms)
    distance = graph.op("Max", distance, graph.constant(0.0))
    kernel = graph.op("Exp", graph.op("Mul", distance, graph.constant(-float(machine._gamma))))
    weights = np.asarray(machine.dual_coef_, dtype=np.float64)[0]
    decision = graph.op("MatMul", kernel, graph.constant(weights))
    decision = graph.op("Add", decision, graph.constant(machine.intercept_[0]))
    sigmoid = fitted[0].calibrators[0]
    # scikit-learn defines Platt's sigmoid as 1 / (1 + exp(a * decision + b)).
    scaled_decision = graph.op("Mul", decision, graph.constant(-sigmoid.a_))
    return _sigmoid(graph, graph.op("Sub", scaled_decision, graph.constant(sigmoid.b_)))


def _forest(graph: _Graph, estimator: Any) -> str:
    trees = [tree.tree_ for tree in estimator.estimators_]
    # Since scikit-learn 1.3 a leaf has the share of each class.
    return _trees(graph, trees, [tree.value[:, 0, 1] for tree in trees], _AVERAGE)


def _boosting(graph: _Graph, estimator: Any) -> str:
    from sklearn.dummy import DummyClassifier

    if estimator.loss != "log_loss" or type(estimator.init_) is not DummyClassifier:
        raise _unsupported(estimator)
    trees = [tree.tree_ for tree in estimator.estimators_[:, 0]]
    leaves = [estimator.learning_rate * tree.value[:, 0, 0] for tree in trees]
    # The first guess of every row is the log odds of the train rows.
    prior = estimator.init_.class_prior_[1]
    start = graph.constant(np.log(prior / (1.0 - prior)))
    return _sigmoid(graph, graph.op("Add", _trees(graph, trees, leaves, _SUM), start))


def _trees(
    graph: _Graph, trees: Sequence[Any], leaves: Sequence[np.ndarray], aggregate: int
) -> str:
    """One TreeEnsemble of scikit-learn's trees.

    scikit-learn compares float32 values with float64 thresholds; so does the graph, which
    rounds the row to float32 and compares in double.
    """
    from onnx import TensorProto, numpy_helper

    tables: list[dict[str, np.ndarray]] = []
    roots: list[int] = [0]
    weights: list[np.ndarray] = []
    for tree, values in zip(trees, leaves, strict=True):
        tables.append(_node_table(tree, roots[-1], sum(len(leaf) for leaf in weights)))
        roots.append(roots[-1] + len(tables[-1]["nodes_splits"]))
        weights.append(values[tree.children_left == -1])
    nodes = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    splits, leaf_weights = nodes.pop("nodes_splits"), np.concatenate(weights)
    modes = np.full(len(splits), _BRANCH_LEQ, dtype=np.uint8)
    single = graph.op("Cast", INPUT, to=TensorProto.FLOAT)
    ensemble = graph.op(
        "TreeEnsemble",
        graph.op("Cast", single, to=TensorProto.DOUBLE),
        domain="ai.onnx.ml",
        aggregate_function=aggregate,
        n_targets=1,
        post_transform=0,
        tree_roots=roots[:-1],
        nodes_modes=numpy_helper.from_array(modes, "nodes_modes"),
        nodes_splits=numpy_helper.from_array(splits, "nodes_splits"),
        **{name: column.astype(int).tolist() for name, column in nodes.items()},
        leaf_targetids=[0] * len(leaf_weights),
        leaf_weights=numpy_helper.from_array(leaf_weights, "leaf_weights"),
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
    }


def export_coefficients(estimator: Any) -> Coefficients | None:
    """Coefficients of a pipeline of StandardScaler and LogisticRegression; else None."""
    from sklearn.linear_model import LogisticRegression

    try:
        scaler, model = _scaled(estimator, LogisticRegression)
    except ModelError:
        return None
    weights = model.coef_[0].tolist()
    return Coefficients(
        mean=tuple(scaler.mean_.tolist() if scaler.with_mean else [0.0] * len(weights)),
        scale=tuple(scaler.scale_.tolist() if scaler.with_std else [1.0] * len(weights)),
        weights=tuple(weights),
        intercept=float(model.intercept_[0]),
    )
