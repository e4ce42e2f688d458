from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bc_pipeline.artifacts.export import export_onnx
from bc_pipeline.artifacts.logistic import Logistic, read_logistic
from bc_pipeline.artifacts.predictors import INPUT, OUTPUT, make_session, predictor_of

WIDTH = 30


def test_it_answers_as_the_graph_that_it_was_read_from(fitted: Any, reference: Any) -> None:
    values = reference[0]
    for model in fitted:
        found = read_logistic(model.graph, INPUT, WIDTH)
        assert found is not None
        expected = make_session(model.graph).run([OUTPUT], {INPUT: values})[0]
        answers = [found.positive(row) for row in values.tolist()]
        assert np.abs(expected - answers).max() <= 1e-15


def test_scores_beyond_what_a_float_can_hold_are_certain() -> None:
    model = Logistic([0.0], [1.0], [1.0], 0.0)
    assert model.positive([-1e6]) == 0.0
    assert model.positive([1e6]) == 1.0
    assert model.positive([0.0]) == 0.5


@pytest.mark.parametrize("name", ["svm_rbf", "random_forest", "gradient_boosting"])
def test_other_models_are_none(wdbc: Any, reference: Any, name: str) -> None:
    values, codes = reference
    candidate = next(one for one in wdbc.candidates if one.name == name)
    estimator = candidate.build(candidate.params, 0)
    estimator.fit(values[:100], wdbc.labels.to_positive(codes[:100]))
    assert read_logistic(export_onnx(estimator, WIDTH), INPUT, WIDTH) is None


def test_a_graph_that_differs_anywhere_is_none(fitted: Any) -> None:
    import onnx
    from onnx import numpy_helper

    def changed(change: Any) -> bytes:
        model = onnx.load_model_from_string(fitted[0].graph)
        change(model.graph)
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def constant(index: int, value: Any) -> Any:
        def change(graph: Any) -> None:
            name = graph.initializer[index].name
            graph.initializer[index].CopyFrom(numpy_helper.from_array(value, name))

        return change

    def swap(graph: Any) -> None:
        first, second = graph.node[1].input
        graph.node[1].input[:] = [second, first]

    changes = {
        "one": constant(4, np.array(2.0)),
        "float": constant(0, np.zeros(WIDTH, dtype=np.float32)),
        "not a number": constant(2, np.full(WIDTH, np.nan)),
        "width": constant(1, np.ones(WIDTH - 1)),
        "operation": lambda graph: setattr(graph.node[0], "op_type", "Add"),
        "other row": lambda graph: graph.node[2].input.__setitem__(0, "n0"),
        "sides": swap,
        "one node more": lambda graph: graph.node.append(graph.node[8]),
        "no constant": lambda graph: graph.initializer.pop(0),
    }
    assert read_logistic(changed(lambda graph: None), INPUT, WIDTH) is not None
    for name, change in changes.items():
        assert read_logistic(changed(change), INPUT, WIDTH) is None, name
    assert read_logistic(fitted[0].graph, "other", WIDTH) is None
    assert read_logistic(fitted[0].graph, INPUT, WIDTH - 1) is None


def test_bytes_that_are_no_graph_are_none(fitted: Any) -> None:
    graph = fitted[0].graph
    for size in range(0, len(graph), 7):
        assert read_logistic(graph[:size], INPUT, WIDTH) is None
    rng = np.random.default_rng(0)
    for size in (1, 10, 1000):
        assert read_logistic(rng.bytes(size), INPUT, WIDTH) is None


def test_a_reading_that_disagrees_with_the_runtime_is_not_used(
    releases: Any, fitted: Any, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = releases.publish("v", fitted[0])
    row = reference[0][0].tolist()
    expected = predictor_of(manifest, fitted[0].graph).positive(reference[0][:1])[0]
    wrong = Logistic([0.0] * WIDTH, [1.0] * WIDTH, [1e-9] * WIDTH, 0.0)
    monkeypatch.setattr("bc_pipeline.artifacts.predictors.read_logistic", lambda *_: wrong)
    assert math.isclose(wrong.positive(row), 0.5, abs_tol=1e-3)
    assert predictor_of(manifest, fitted[0].graph).positive_one(row) == expected
