"""The parity check must fail for graphs that are wrong in one small way."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bc_pipeline.artifacts.export import export_onnx
from bc_pipeline.artifacts.parity import check_parity
from bc_pipeline.errors import ModelError

BOUND = 1e-12
Change = Callable[[np.ndarray], np.ndarray]


def _with_attribute(graph: bytes, name: str, change: Change) -> bytes:
    """Change a tensor attribute of the tree ensemble."""
    model = onnx.load_from_string(graph)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == name:
                changed = change(numpy_helper.to_array(attribute.t).copy())
                attribute.t.CopyFrom(numpy_helper.from_array(changed, name))
                return model.SerializeToString()
    raise AssertionError(name)


def _with_constant(graph: bytes, index: int, change: Change) -> bytes:
    model = onnx.load_from_string(graph)
    tensor = model.graph.initializer[index]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    return model.SerializeToString()


def _to_single(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting"])
@pytest.mark.parametrize(
    ("attribute", "change"),
    [
        ("nodes_splits", _to_single),
        ("nodes_splits", lambda splits: np.nextafter(_to_single(splits), -np.inf)),
        ("leaf_weights", _to_single),
        ("nodes_modes", np.ones_like),
    ],
    ids=["single thresholds", "thresholds below", "single leaves", "less instead of at most"],
)
def test_wrong_trees_are_detected(
    candidates: dict[str, Any],
    reference: tuple[np.ndarray, np.ndarray],
    name: str,
    attribute: str,
    change: Change,
) -> None:
    values, _ = reference
    graph = _with_attribute(export_onnx(candidates[name], 30), attribute, change)
    parity = check_parity(candidates[name], graph, values, 0.5, seed=3)
    assert parity.worst_difference > BOUND


def test_one_changed_threshold_among_thousands_is_detected(
    candidates: dict[str, Any], reference: tuple[np.ndarray, np.ndarray]
) -> None:
    values, _ = reference
    forest = candidates["random_forest"]

    def move(splits: np.ndarray) -> np.ndarray:
        splits[1234] = np.nextafter(np.float32(splits[1234]), np.float32(np.inf)) * 1.0001
        return splits

    graph = _with_attribute(export_onnx(forest, 30), "nodes_splits", move)
    assert check_parity(forest, graph, values, 0.5, seed=3).worst_difference > BOUND


@pytest.mark.parametrize(("name", "constant"), [("logistic", 2), ("svm_rbf", 3)])
def test_a_single_precision_constant_is_detected(
    candidates: dict[str, Any], reference: tuple[np.ndarray, np.ndarray], name: str, constant: int
) -> None:
    values, _ = reference
    graph = _with_constant(export_onnx(candidates[name], 30), constant, _to_single)
    parity = check_parity(candidates[name], graph, values, 0.5, seed=3)
    assert parity.worst_difference > BOUND


def test_flips_next_to_the_threshold_are_detected(
    candidates: dict[str, Any], reference: tuple[np.ndarray, np.ndarray]
) -> None:
    values, _ = reference
    shifted = deepcopy(candidates["logistic"])
    shifted[-1].intercept_ = shifted[-1].intercept_ + 1e-6
    threshold = 0.4
    # No real row is near enough to the threshold to show it.
    calls = [
        model.predict_proba(values)[:, 1] > threshold for model in (shifted, candidates["logistic"])
    ]
    assert (calls[0] == calls[1]).all()
    parity = check_parity(
        candidates["logistic"], export_onnx(shifted, 30), values, threshold, seed=3
    )
    assert parity.flips > 0


def test_a_nan_is_the_worst_difference(
    candidates: dict[str, Any], reference: tuple[np.ndarray, np.ndarray]
) -> None:
    values, _ = reference
    graph = _with_constant(export_onnx(candidates["logistic"], 30), 2, lambda c: c * np.nan)
    assert check_parity(candidates["logistic"], graph, values, 0.5, seed=3).worst_difference == 1.0


def test_invalid_graph_bytes_are_refused(
    candidates: dict[str, Any], reference: tuple[np.ndarray, np.ndarray]
) -> None:
    with pytest.raises(ModelError, match="does not take the graph"):
        check_parity(candidates["logistic"], b"no graph", reference[0], 0.5, seed=3)


def test_a_model_without_positive_calls_is_compared(
    candidates: dict[str, Any], reference: tuple[np.ndarray, np.ndarray]
) -> None:
    graph = export_onnx(candidates["logistic"], 30)
    parity = check_parity(candidates["logistic"], graph, reference[0], 1.0, seed=3)
    assert parity.worst_difference <= BOUND
    assert parity.flips == 0
