"""Exporters of the steps before a model: scaling, and imputation of missing values."""

from __future__ import annotations

from typing import Any

import numpy as np

from bc_pipeline.artifacts.exporters.graph import Graph
from bc_pipeline.artifacts.exporters.unsupported import Unsupported


def scale(graph: Graph, scaler: Any, values: str) -> str:
    """``StandardScaler``; NaN stays NaN."""
    if scaler.with_mean:
        values = graph.op("Sub", values, graph.constant(scaler.mean_))
    return graph.op("Div", values, graph.constant(scaler.scale_)) if scaler.with_std else values


def impute(graph: Graph, imputer: Any, values: str) -> str:
    """``SimpleImputer`` of NaN, without an indicator: puts each feature's statistic in."""
    replaces_nan = isinstance(imputer.missing_values, float) and np.isnan(imputer.missing_values)
    statistics = np.asarray(imputer.statistics_, dtype=np.float64)
    # A feature without any value in training has no statistic, and the imputer drops it.
    if not replaces_nan or imputer.add_indicator or np.isnan(statistics).any():
        raise Unsupported
    missing = graph.op("IsNaN", values)
    return graph.op("Where", missing, graph.constant(statistics), values)
