"""Exports fitted scikit-learn estimators as ONNX graphs in double precision, and as coefficients.

Each type of estimator has an exporter in the tables below. Steps of a pipeline are exported one
after the other, so any step may stand before any model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bc_pipeline.artifacts.coefficients import Coefficients
from bc_pipeline.artifacts.exporters import models, transformers, trees
from bc_pipeline.artifacts.exporters.graph import Graph
from bc_pipeline.artifacts.exporters.unsupported import Unsupported
from bc_pipeline.artifacts.predictors import INPUT
from bc_pipeline.errors import ModelError

Exporter = Callable[[Graph, Any, str], str]
"""Appends an estimator to a graph; gets the name of its input tensor, and returns its output's."""
Prefix = Callable[[Graph], str]
"""Declares the input of a graph, and returns the tensor of features that it makes of it."""
_PIPELINE = "sklearn.pipeline.Pipeline"


def type_name(estimator: Any) -> str:
    """The public name of an estimator's type, such as ``sklearn.svm.SVC``."""
    kind = type(estimator)
    public = [part for part in kind.__module__.split(".") if not part.startswith("_")]
    return ".".join([*public, kind.__qualname__])


def _steps(estimator: Any) -> list[Any]:
    """The steps of a pipeline; anything else is a step by itself."""
    if type_name(estimator) != _PIPELINE:
        return [estimator]
    return [step for _, step in estimator.steps]


def _append(graph: Graph, exporters: Mapping[str, Exporter], estimator: Any, values: str) -> str:
    """Append a model, with the steps before it where it is a pipeline."""
    *steps, model = _steps(estimator)
    for step in steps:
        values = _exporter(TRANSFORMERS, step)(graph, step, values)
    return _exporter(exporters, model)(graph, model, values)


def _exporter(exporters: Mapping[str, Exporter], estimator: Any) -> Exporter:
    exporter = exporters.get(type_name(estimator))
    if exporter is None:
        raise Unsupported
    return exporter


def _calibrated(graph: Graph, estimator: Any, values: str) -> str:
    """``CalibratedClassifierCV``, sigmoid and no ensemble: Platt's sigmoid of a score."""
    fitted = estimator.calibrated_classifiers_
    if estimator.method != "sigmoid" or len(fitted) != 1:
        raise Unsupported
    score = _append(graph, SCORES, fitted[0].estimator, values)
    sigmoid = fitted[0].calibrators[0]
    # scikit-learn defines Platt's sigmoid as 1 / (1 + exp(a * score + b)).
    scaled = graph.op("Mul", score, graph.constant(-sigmoid.a_))
    return graph.sigmoid(graph.op("Sub", scaled, graph.constant(sigmoid.b_)))


TRANSFORMERS: dict[str, Exporter] = {
    "sklearn.preprocessing.StandardScaler": transformers.scale,
    "sklearn.impute.SimpleImputer": transformers.impute,
}
SCORES: dict[str, Exporter] = {
    "sklearn.linear_model.LogisticRegression": models.linear_score,
    "sklearn.svm.SVC": models.kernel_score,
}
"""Decision functions of two classes."""
PROBABILITIES: dict[str, Exporter] = {
    "sklearn.linear_model.LogisticRegression": models.logistic,
    "sklearn.ensemble.RandomForestClassifier": trees.forest,
    "sklearn.ensemble.GradientBoostingClassifier": trees.boosting,
    "sklearn.calibration.CalibratedClassifierCV": _calibrated,
}
"""Probabilities of class 1."""


def export_onnx(
    estimator: Any,
    n_features: int,
    *,
    may_be_missing: bool = False,
    prefix: Prefix | None = None,
) -> bytes:
    """Export a fitted estimator as an ONNX graph.

    Parameters
    ----------
    estimator : scikit-learn classifier
        Fitted on 1 for the positive class and 0 for the other; of a type in `PROBABILITIES`, or a
        pipeline of types in `TRANSFORMERS` and one of those.
    n_features : int
    may_be_missing : bool
        Whether values may be NaN, which stands for a value that is not given.
    prefix : Prefix, optional
        What the graph does before the estimator, where its input is not the table of features.

    Returns
    -------
    bytes
        A graph from ``features``, double (n, n_features), to ``probability``, double (n,),
        of the positive class. The same estimator gives the same bytes.

    Raises
    ------
    ModelError
        Where there is no exporter for the estimator or its parameters.
    """
    if list(getattr(estimator, "classes_", [])) != [0, 1]:
        raise ModelError(
            f"{type(estimator).__name__} is not fitted on the classes 0 and 1, 1 being positive."
        )
    graph = Graph(may_be_missing)
    values = prefix(graph) if prefix else graph.input(INPUT, "DOUBLE", [None, n_features])
    try:
        return graph.to_bytes(_append(graph, PROBABILITIES, estimator, values))
    except Unsupported:
        raise _unsupported(estimator) from None


def export_coefficients(estimator: Any) -> Coefficients | None:
    """Coefficients of a pipeline of StandardScaler and LogisticRegression; else None."""
    steps = _steps(estimator)
    if [type_name(step) for step in steps] != [
        "sklearn.preprocessing.StandardScaler",
        "sklearn.linear_model.LogisticRegression",
    ]:
        return None
    scaler, model = steps
    weights = model.coef_[0].tolist()
    return Coefficients(
        mean=tuple(scaler.mean_.tolist() if scaler.with_mean else [0.0] * len(weights)),
        scale=tuple(scaler.scale_.tolist() if scaler.with_std else [1.0] * len(weights)),
        weights=tuple(weights),
        intercept=float(model.intercept_[0]),
    )


def _unsupported(estimator: Any) -> ModelError:
    steps = [type(step).__name__ for step in _steps(estimator)]
    inside = f" of {', '.join(steps)}" if type_name(estimator) == _PIPELINE else ""
    models = ", ".join(name.rsplit(".", 1)[1] for name in PROBABILITIES)
    before = ", ".join(name.rsplit(".", 1)[1] for name in TRANSFORMERS)
    return ModelError(
        f"{type(estimator).__name__}{inside} has no exact export.",
        f"Supported are {models}, and pipelines of {before} and one of them; of "
        "CalibratedClassifierCV method='sigmoid' with ensemble=False, of SVC kernel='rbf', of "
        "GradientBoostingClassifier loss='log_loss'.",
    )
