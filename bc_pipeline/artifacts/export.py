"""A fitted scikit-learn estimator as an ONNX graph in double precision, and the proof of it.

The graphs are built by hand: the usual converter keeps tree thresholds in single precision
even when asked for double, which moves forests by up to 0.08 and turns calls around.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bc_pipeline.artifacts.parity import check_parity
from bc_pipeline.artifacts.predictors import INPUT, OUTPUT
from bc_pipeline.artifacts.sealed import ESTIMATOR, VersionFiles
from bc_pipeline.errors import ModelError

__all__ = ["check_parity", "dump_estimator", "export_onnx", "load_estimator"]

# Pinned, so that the bytes depend on the estimator alone.
_OPSET = 21
_ML_OPSET = 5
_IR_VERSION = 10

# Values of TreeEnsemble's attributes (ai.onnx.ml, version 5).
_BRANCH_LEQ = 0
_AVERAGE, _SUM = 0, 1


def export_onnx(estimator: Any, n_features: int) -> bytes:
    """Export a fitted estimator.

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
        Where the estimator is of another make.
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
    """Nodes and constants as they are added, under numbered names."""

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
    """Take a pipeline of a standard scaler and one model of that kind apart."""
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
    """1 / (1 + exp(-score)); the exponential may overflow, which rightly gives 0."""
    grown = graph.op("Exp", graph.op("Neg", score))
    one = graph.constant(1.0)
    return graph.op("Div", one, graph.op("Add", grown, one))


def _calibrated(graph: _Graph, estimator: Any) -> str:
    """Platt's sigmoid over the decision function of an RBF machine.

    The squared distance to each support vector is |x|^2 - 2 x.s + |s|^2. Standardised
    features are centred near the support vectors, so that little is lost by cancellation,
    and where x is far away the kernel is zero anyway; the matrix product keeps a batch from
    needing memory for every difference.
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
    own = graph.op(
        "ReduceSum", graph.op("Mul", scaled, scaled), graph.constant([1], np.int64), keepdims=1
    )
    cross = graph.op("MatMul", scaled, graph.constant(-2.0 * vectors.T))
    theirs = graph.constant((vectors**2).sum(axis=1))
    distance = graph.op("Add", graph.op("Add", own, cross), theirs)
    distance = graph.op("Max", distance, graph.constant(0.0))
    kernel = graph.op("Exp", graph.op("Mul", distance, graph.constant(-float(machine._gamma))))
    weights = np.asarray(machine.dual_coef_, dtype=np.float64)[0]
    decision = graph.op("MatMul", kernel, graph.constant(weights))
    decision = graph.op("Add", decision, graph.constant(machine.intercept_[0]))
    sigmoid = fitted[0].calibrators[0]
    # scikit-learn writes Platt's curve as 1 / (1 + exp(a * decision + b)).
    scaled_decision = graph.op("Mul", decision, graph.constant(-sigmoid.a_))
    return _sigmoid(graph, graph.op("Sub", scaled_decision, graph.constant(sigmoid.b_)))


def _forest(graph: _Graph, estimator: Any) -> str:
    trees = [tree.tree_ for tree in estimator.estimators_]
    # Since scikit-learn 1.3 a leaf holds the share of each class.
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
    """One TreeEnsemble of scikit-learn's trees, fed as they are: rows rounded to single.

    scikit-learn compares a float32 value with a float64 threshold; so does this, by
    rounding the row and comparing in double.
    """
    from onnx import TensorProto, numpy_helper

    columns: dict[str, list[int]] = {
        name: [] for name in ("roots", "feature", "true", "true_leaf", "false", "false_leaf")
    }
    thresholds: list[float] = []
    weights: list[float] = []
    for tree, values in zip(trees, leaves, strict=True):
        first = len(thresholds)
        inner = np.flatnonzero(tree.children_left != -1)
        outer = np.flatnonzero(tree.children_left == -1)
        place = {int(node): first + order for order, node in enumerate(inner)}
        place |= {int(node): len(weights) + order for order, node in enumerate(outer)}
        weights += [float(values[node]) for node in outer]
        columns["roots"].append(first)
        for node in inner:
            columns["feature"].append(int(tree.feature[node]))
            thresholds.append(float(tree.threshold[node]))
            for side, children in (("true", tree.children_left), ("false", tree.children_right)):
                child = int(children[node])
                columns[side].append(place[child])
                columns[f"{side}_leaf"].append(int(tree.children_left[child] == -1))
        if not len(inner):
            # The format has no tree without a node: one whose branches meet in the leaf.
            columns["feature"].append(0)
            thresholds.append(0.0)
            for side in ("true", "false"):
                columns[side].append(place[0])
                columns[f"{side}_leaf"].append(1)
    single = graph.op("Cast", INPUT, to=TensorProto.FLOAT)
    ensemble = graph.op(
        "TreeEnsemble",
        graph.op("Cast", single, to=TensorProto.DOUBLE),
        domain="ai.onnx.ml",
        aggregate_function=aggregate,
        n_targets=1,
        post_transform=0,
        tree_roots=columns["roots"],
        nodes_featureids=columns["feature"],
        nodes_modes=numpy_helper.from_array(
            np.full(len(thresholds), _BRANCH_LEQ, dtype=np.uint8), "nodes_modes"
        ),
        nodes_splits=numpy_helper.from_array(np.array(thresholds), "nodes_splits"),
        nodes_truenodeids=columns["true"],
        nodes_trueleafs=columns["true_leaf"],
        nodes_falsenodeids=columns["false"],
        nodes_falseleafs=columns["false_leaf"],
        leaf_targetids=[0] * len(weights),
        leaf_weights=numpy_helper.from_array(np.array(weights), "leaf_weights"),
    )
    return graph.op("Squeeze", ensemble, graph.constant([1], np.int64))


# The estimator itself -------------------------------------------------------------------------


def dump_estimator(estimator: Any) -> bytes:
    """The bytes of ``model.joblib``; the same estimator gives the same bytes."""
    import joblib

    stream = io.BytesIO()
    joblib.dump(estimator, stream, compress=0, protocol=5)
    return stream.getvalue()


def load_estimator(files: VersionFiles) -> Any:
    """Unpickle a version's estimator: only for the side that holds the signing key.

    The bytes are those that the manifest's signature covers, but a pickle runs code: a
    reader of the volume uses the graph instead.

    Raises
    ------
    ArtifactCorrupt
    """
    import joblib

    return joblib.load(io.BytesIO(files.read(ESTIMATOR)))
