from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bc_pipeline.artifacts import signed_bundle
from bc_pipeline.artifacts.coefficients import Coefficients
from bc_pipeline.artifacts.export import export_coefficients, export_onnx
from bc_pipeline.artifacts.files import encode_document
from bc_pipeline.artifacts.predictors import (
    INPUT,
    OUTPUT,
    Predictor,
    load_predictor,
    make_session,
)
from bc_pipeline.errors import ArtifactCorrupt, ModelError

Publish = Callable[[bytes | None], signed_bundle.VersionFiles]


@pytest.fixture
def publish(releases: Any, fitted: Any) -> Publish:
    """Publishes the first model with other coefficients, or none."""

    def publish(coefficients: bytes | None) -> signed_bundle.VersionFiles:
        releases.publish("v", replace(fitted[0], coefficients=coefficients))
        folder = releases.store.version("v")
        return signed_bundle.open_version(folder, releases.settings.verify_key)

    return publish


def test_coefficients_give_the_probabilities_of_the_graph(fitted: Any, reference: Any) -> None:
    values = reference[0]
    for model in fitted:
        coefficients = msgspec.json.decode(model.coefficients, type=Coefficients)
        expected = make_session(model.graph).run([OUTPUT], {INPUT: values})[0]
        answers = [coefficients.positive(row) for row in values.tolist()]
        assert np.abs(expected - answers).max() <= 1e-15


@pytest.mark.parametrize("options", [{"with_mean": False}, {"with_std": False}])
def test_coefficients_of_a_partial_scaler(options: dict[str, bool]) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 2.0, (50, 2))
    estimator = make_pipeline(StandardScaler(**options), LogisticRegression())
    estimator.fit(values, (values[:, 0] > 3).astype(int))
    coefficients = export_coefficients(estimator)
    assert coefficients is not None
    expected = make_session(export_onnx(estimator, 2)).run([OUTPUT], {INPUT: values})[0]
    answers = [coefficients.positive(row) for row in values.tolist()]
    assert np.abs(expected - answers).max() <= 1e-15


def test_rows_together_have_the_probabilities_of_each_row(fitted: Any, reference: Any) -> None:
    for model in fitted:
        coefficients = msgspec.json.decode(model.coefficients, type=Coefficients)
        values = np.tile(reference[0], (9, 1))
        together = coefficients.positive_each(values)
        alone = [coefficients.positive(row) for row in values.tolist()]
        assert np.abs(together - alone).max() <= 1e-15
        # To the last bit, whatever rows stand beside it and in whatever order they are in memory.
        assert np.array_equal(coefficients.positive_each(values[7:]), together[7:])
        assert np.array_equal(coefficients.positive_each(np.asfortranarray(values)), together)
        assert coefficients.positive_each(values[:0]).shape == (0,)


def test_extreme_scores_of_many_rows_give_zero_or_one() -> None:
    model = Coefficients(mean=(0.0,), scale=(1.0,), weights=(1.0,), intercept=0.0)
    assert model.positive_each(np.array([[-1e6], [1e6], [0.0]])).tolist() == [0.0, 1.0, 0.5]


def test_extreme_scores_give_zero_or_one() -> None:
    model = Coefficients(mean=(0.0,), scale=(1.0,), weights=(1.0,), intercept=0.0)
    assert model.positive([-1e6]) == 0.0
    assert model.positive([1e6]) == 1.0
    assert model.positive([0.0]) == 0.5


@pytest.mark.parametrize("name", ["svm_rbf", "random_forest", "gradient_boosting"])
def test_other_estimators_have_no_coefficients(candidates: Any, name: str) -> None:
    assert export_coefficients(candidates[name]) is None


def test_a_version_without_coefficients_is_run_by_the_runtime(
    publish: Publish, fitted: Any, reference: Any
) -> None:
    predictor = load_predictor(publish(None))
    plain = Predictor(predictor.manifest, make_session(fitted[0].graph))
    for row in reference[0][:20].tolist():
        assert predictor.positive_one(row) == plain.positive_one(row)


@pytest.mark.parametrize(
    "changes",
    [
        {"intercept": 0.1},
        {"mean": (0.0,) * 29},
        {"scale": (0.0,) * 30},
        {"weights": (1e-9,) * 30},
    ],
)
def test_coefficients_that_disagree_with_the_graph_are_refused(
    publish: Publish, fitted: Any, changes: dict[str, Any]
) -> None:
    right = msgspec.json.decode(fitted[0].coefficients, type=Coefficients)
    files = publish(encode_document(msgspec.structs.replace(right, **changes)))
    with pytest.raises(ModelError, match=r"coefficients\.json of v does not agree"):
        load_predictor(files)


def test_other_coefficients_than_those_signed_are_refused(publish: Publish, fitted: Any) -> None:
    files = publish(fitted[0].coefficients)
    path = files.folder / signed_bundle.COEFFICIENTS
    path.write_bytes(fitted[1].coefficients)
    with pytest.raises(ArtifactCorrupt):
        load_predictor(files)
    path.unlink()
    with pytest.raises(ArtifactCorrupt):
        load_predictor(files)


def test_a_later_format_is_refused(publish: Publish, fitted: Any) -> None:
    later = fitted[0].coefficients.replace(b'"format": 1', b'"format": 2')
    with pytest.raises(ArtifactCorrupt, match="reads up to format 1"):
        load_predictor(publish(later))
