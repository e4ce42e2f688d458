"""Exporters of linear models and support vector machines: their decision functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from bc_pipeline.artifacts.exporters.graph import Graph
from bc_pipeline.artifacts.exporters.unsupported import Unsupported


def linear_score(graph: Graph, model: Any, values: str) -> str:
    """Weighted sum of the features and the intercept."""
    score = graph.op("MatMul", values, graph.constant(model.coef_[0]))
    return graph.op("Add", score, graph.constant(np.ravel(model.intercept_)[0]))


def logistic(graph: Graph, model: Any, values: str) -> str:
    """``LogisticRegression`` of two classes."""
    return graph.sigmoid(linear_score(graph, model, values))


def kernel_score(graph: Graph, machine: Any, values: str) -> str:
    """``SVC`` with an RBF kernel.

    The squared distance to a support vector is computed as |x|^2 - 2 x.s + |s|^2, by a matrix
    product, which needs less memory than all differences. Little precision is lost by
    cancellation: standardised features lie near the support vectors, and far from them the
    kernel is zero.
    """
    if machine.kernel != "rbf":
        raise Unsupported
    vectors = np.asarray(machine.support_vectors_, dtype=np.float64)
    row_norms = graph.op(
        "ReduceSum", graph.op("Mul", values, values), graph.constant([1], np.int64), keepdims=1
    )
    cross = graph.op("MatMul", values, graph.constant(-2.0 * vectors.T))
    vector_norms = graph.constant((vectors**2).sum(axis=1))
    distance = graph.op("Add", graph.op("Add", row_norms, cross), vector_norms)
    distance = graph.op("Max", distance, graph.constant(0.0))
    kernel = graph.op("Exp", graph.op("Mul", distance, graph.constant(-float(machine._gamma))))
    weights = np.asarray(machine.dual_coef_, dtype=np.float64)[0]
    decision = graph.op("MatMul", kernel, graph.constant(weights))
    return graph.op("Add", decision, graph.constant(machine.intercept_[0]))
