from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from bc_pipeline.artifacts import signed_bundle
from bc_pipeline.artifacts.export import export_onnx
from bc_pipeline.artifacts.exporters.graph import Graph
from bc_pipeline.artifacts.model_files import dump_estimator, load_estimator
from bc_pipeline.artifacts.parity import check_parity
from bc_pipeline.artifacts.predictors import INPUT, OUTPUT, make_session
from bc_pipeline.errors import ArtifactCorrupt, ModelError
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem

NAMES = [candidate.name for candidate in get_problem("wdbc").candidates]
Rows = tuple[np.ndarray, np.ndarray]


def _answer(graph: bytes, values: np.ndarray) -> np.ndarray:
    return make_session(graph).run([OUTPUT], {INPUT: values})[0]


@pytest.fixture(scope="module")
def small() -> Rows:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(120, 4))
    return values, (values[:, 0] + 0.5 * rng.normal(size=120) > 0).astype(int)


@pytest.mark.parametrize("threshold", [0.31, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_every_candidate_is_exported_exactly(
    candidates: dict[str, Any], reference: Rows, name: str, threshold: float
) -> None:
    values, _ = reference
    graph = export_onnx(candidates[name], values.shape[1])
    parity = check_parity(candidates[name], graph, values, threshold, seed=3)
    assert parity.rows > 4 * len(values)
    assert parity.worst_difference <= 1e-12
    assert parity.flips == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_size_does_not_change_probabilities(
    candidates: dict[str, Any], reference: Rows, name: str
) -> None:
    values, _ = reference
    session = make_session(export_onnx(candidates[name], values.shape[1]))
    together = session.run([OUTPUT], {INPUT: values})[0]
    alone = [session.run([OUTPUT], {INPUT: values[[row]]})[0][0] for row in range(len(values))]
    assert np.abs(together - np.array(alone)).max() <= 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_the_same_fit_gives_the_same_bytes(
    candidates: dict[str, Any], wdbc: Problem, reference: Rows, name: str
) -> None:
    values, codes = reference
    again = clone(candidates[name]).fit(values, wdbc.labels.to_positive(codes))
    assert export_onnx(again, 30) == export_onnx(candidates[name], 30)
    assert dump_estimator(again) == dump_estimator(candidates[name])


@pytest.mark.parametrize("name", ["logistic", "svm_rbf"])
def test_extreme_rows_stay_probabilities(
    candidates: dict[str, Any], reference: Rows, name: str
) -> None:
    values, _ = reference
    rows = np.concatenate([values * 1e6, values * -1e6, np.zeros((1, 30))])
    found = _answer(export_onnx(candidates[name], 30), rows)
    assert np.abs(found - candidates[name].predict_proba(rows)[:, 1]).max() <= 1e-12


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(with_mean=False), LogisticRegression()),
        make_pipeline(StandardScaler(with_std=False), LogisticRegression(fit_intercept=False)),
        CalibratedClassifierCV(
            make_pipeline(StandardScaler(), SVC(gamma="scale")), method="sigmoid", ensemble=False
        ),
        LogisticRegression(),
        make_pipeline(StandardScaler(), RandomForestClassifier(3, random_state=0)),
        CalibratedClassifierCV(LogisticRegression(), method="sigmoid", ensemble=False),
        # Trees that are a lone leaf.
        RandomForestClassifier(n_estimators=3, max_depth=1, min_samples_leaf=60, random_state=0),
        GradientBoostingClassifier(n_estimators=3, min_samples_leaf=60, random_state=0),
    ],
)
def test_parameters_of_supported_estimators_are_exported(estimator: Any, small: Rows) -> None:
    values, positive = small
    estimator.fit(values, positive)
    parity = check_parity(estimator, export_onnx(estimator, 4), values, 0.5, seed=0)
    assert parity.worst_difference <= 1e-12
    assert parity.flips == 0


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(MinMaxScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), SVC()),
        make_pipeline(SimpleImputer(missing_values=0), LogisticRegression()),
        make_pipeline(SimpleImputer(add_indicator=True), LogisticRegression()),
        ExtraTreesClassifier(3),
        GradientBoostingClassifier(n_estimators=3, loss="exponential"),
        GradientBoostingClassifier(n_estimators=3, init="zero"),
        CalibratedClassifierCV(
            make_pipeline(StandardScaler(), SVC()), method="isotonic", ensemble=False
        ),
        CalibratedClassifierCV(make_pipeline(StandardScaler(), SVC()), ensemble=True),
        CalibratedClassifierCV(
            make_pipeline(StandardScaler(), SVC(kernel="linear")), ensemble=False
        ),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_an_unsupported_estimator_is_refused_by_name(estimator: Any, small: Rows) -> None:
    values, positive = small
    with pytest.raises(ModelError, match="has no exact export") as caught:
        export_onnx(estimator.fit(values, positive), 4)
    assert type(estimator).__name__ in caught.value.message
    assert "GradientBoostingClassifier" in caught.value.remedy


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(25, random_state=0),
        make_pipeline(SimpleImputer(strategy="median"), GradientBoostingClassifier(random_state=0)),
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
        CalibratedClassifierCV(
            make_pipeline(SimpleImputer(), StandardScaler(), SVC()), ensemble=False
        ),
    ],
    ids=["forest", "boosting", "logistic", "svm"],
)
@pytest.mark.parametrize("missing_in_training", [True, False])
def test_missing_values_are_exported_exactly(
    estimator: Any, small: Rows, missing_in_training: bool
) -> None:
    values, positive = small
    rng = np.random.default_rng(5)
    rows = np.where(rng.random(values.shape) < 0.3, np.nan, values)
    rows[0] = np.nan
    estimator = clone(estimator).fit(rows if missing_in_training else values, positive)
    graph = export_onnx(estimator, 4, may_be_missing=True)
    for table in (rows, values):
        expected = estimator.predict_proba(table)[:, 1]
        assert np.abs(_answer(graph, table) - expected).max() <= 1e-12


def test_a_prefix_makes_the_features_from_another_input(small: Rows) -> None:
    values, positive = small
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(values, positive)

    def pixels(graph: Graph) -> str:
        return graph.cast(graph.input("pixels", "UINT8", [None, 4]), "DOUBLE")

    image = np.random.default_rng(2).integers(0, 256, (7, 4), dtype=np.uint8)
    session = make_session(export_onnx(estimator, 4, prefix=pixels))
    expected = estimator.predict_proba(image.astype(float))[:, 1]
    assert np.abs(session.run([OUTPUT], {"pixels": image})[0] - expected).max() <= 1e-12


def test_labels_must_be_zero_and_one(small: Rows) -> None:
    values, positive = small
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    for labels in (positive + 1, np.where(positive, "M", "B")):
        with pytest.raises(ModelError, match="classes 0 and 1"):
            export_onnx(estimator.fit(values, labels), 4)
    with pytest.raises(ModelError, match="classes 0 and 1"):
        export_onnx(object(), 4)


def test_an_estimator_is_loaded_from_verified_bytes_only(
    releases: Any, candidates: dict[str, Any], reference: Rows
) -> None:
    values, _ = reference
    folder = releases.settings.home / "draft"
    folder.mkdir(parents=True)
    path = folder / signed_bundle.ESTIMATOR
    path.write_bytes(dump_estimator(candidates["logistic"]))
    signed_bundle.sign_bundle(releases.draft("v"), folder, releases.settings.signing_key)
    files = signed_bundle.open_version(folder, releases.settings.verify_key)
    expected = candidates["logistic"].predict_proba(values)
    assert np.array_equal(load_estimator(files).predict_proba(values), expected)
    path.write_bytes(dump_estimator(candidates["svm_rbf"]))
    with pytest.raises(ArtifactCorrupt):
        load_estimator(files)
