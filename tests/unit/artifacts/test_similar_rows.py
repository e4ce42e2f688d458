from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bc_pipeline.artifacts.export import export_onnx
from bc_pipeline.artifacts.predictors import TREES, Predictor, make_session
from bc_pipeline.artifacts.similar_rows import similar_order


def test_each_row_has_one_place(reference: Any) -> None:
    values = reference[0].copy()
    values[:, 3] = 7.0
    order = similar_order(values)
    assert np.array_equal(np.sort(order), np.arange(len(values)))
    equal = np.ones((5, 3))
    assert np.array_equal(np.sort(similar_order(equal)), np.arange(5))


def test_rows_of_two_groups_are_separated() -> None:
    rng = np.random.default_rng(20240229)
    values = rng.normal(size=(200, 4)) + np.where(np.arange(200) % 2, 50.0, -50.0)[:, None]
    group = similar_order(values) % 2
    assert np.count_nonzero(np.diff(group)) < 20


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting"])
def test_the_order_leaves_each_probability_of_trees_as_it_was(
    candidates: dict[str, Any], reference: Any, wdbc: Any, name: str
) -> None:
    graph = export_onnx(candidates[name], 30)
    assert TREES in graph
    values = np.tile(reference[0], (2, 1))
    manifest = SimpleNamespace(feature_schema=wdbc.schema)
    ordered, plain = (
        Predictor(manifest, make_session(graph), has_trees=trees).positive(values)  # type: ignore[arg-type]
        for trees in (True, False)
    )
    assert np.array_equal(ordered, plain)
