from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bc_pipeline.artifacts.export import export_onnx
from bc_pipeline.artifacts.predictors import INPUT, OUTPUT, make_session
from bc_pipeline.explanation import shapley
from bc_pipeline.explanation.explainer import MEDIANS, Explainer, Explanation
from bc_pipeline.explanation.linear_form import find_linear_form, logit, sigmoid
from bc_pipeline.problems.base import Problem
from bc_pipeline.serving.model.loaded_model import LoadedModel, reference_record
from bc_pipeline.serving.model.model_watcher import ModelWatcher

Positive = Callable[[np.ndarray], np.ndarray]
ROWS = (0, 19, 50, 100, 300, 400, 568)
SAMPLED = ("svm_rbf", "random_forest", "gradient_boosting")
NAMES = ("logistic", *SAMPLED)


def predict_with(graph: bytes) -> Positive:
    session = make_session(graph)
    return lambda rows: session.run([OUTPUT], {INPUT: np.ascontiguousarray(rows)})[0]


def total(explanation: Explanation) -> float:
    return explanation.base_log_odds + sum(explanation.contributions.values())


@pytest.fixture(scope="module")
def estimators(wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    values, codes = reference
    positive = wdbc.labels.to_positive(codes)
    return {
        candidate.name: candidate.build(candidate.params, 7).fit(values, positive)
        for candidate in wdbc.candidates
    }


@pytest.fixture(scope="module")
def live(
    estimators: dict[str, Any],
    fitted: tuple[Any, ...],
    releases_in: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, LoadedModel]:
    """Each candidate, signed, published, and loaded as the service loads it."""
    releases = releases_in(tmp_path_factory.mktemp("explain"))
    loaded = {}
    for name, estimator in estimators.items():
        model = type(fitted[0])(0.0, estimator, export_onnx(estimator, 30), np.empty(0))
        releases.publish(name, model)
        releases.promote(name)
        follower = ModelWatcher(releases.settings)
        follower.refresh()
        assert follower.current is not None
        loaded[name] = follower.current
    return loaded


def test_every_candidate_is_covered(wdbc: Problem) -> None:
    assert {candidate.name for candidate in wdbc.candidates} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_method_follows_from_the_model(live: dict[str, LoadedModel], name: str) -> None:
    expected = "linear" if name == "logistic" else "permutation-shapley"
    assert live[name].explainer.method == expected
    assert live[name].explainer is live[name].explainer


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", NAMES)
def test_contributions_add_up_to_the_log_odds(
    live: dict[str, LoadedModel], reference: tuple[np.ndarray, np.ndarray], name: str, row: int
) -> None:
    values, _ = reference
    found = live[name].explainer.explain(values[row].tolist())
    served = float(live[name].predictor.positive(values[[row]])[0])
    assert set(found.contributions) == set(live[name].manifest.feature_schema.names)
    assert total(found) == pytest.approx(found.log_odds, abs=1e-9)
    if not found.clipped:
        assert found.log_odds == pytest.approx(logit(served), abs=1e-9)
    elif found.method == "linear":
        assert sigmoid(found.log_odds) == pytest.approx(served, abs=1e-12)
    else:
        bound = live[name].explainer.bound
        assert not bound <= served <= 1 - bound
        assert abs(found.log_odds) == pytest.approx(logit(1 - bound), abs=1e-9)


def test_linear_contributions_are_those_of_the_estimator(
    live: dict[str, LoadedModel],
    estimators: dict[str, Any],
    reference: tuple[np.ndarray, np.ndarray],
) -> None:
    values, _ = reference
    scaler, model = (step for _, step in estimators["logistic"].steps)
    coefficients = model.coef_[0] / scaler.scale_
    centre = np.array(reference_record(live["logistic"].manifest))
    # Half way out to the physical limits, too: seven times the training range.
    for row in np.concatenate([values, values[:50] * 4]):
        found = live["logistic"].explainer.explain(row.tolist())
        assert found.method == "linear"
        expected = coefficients * (row - centre)
        worst = np.abs(np.array(list(found.contributions.values())) - expected).max()
        assert worst <= 1e-9
        decision = estimators["logistic"].decision_function(row[None])[0]
        assert found.log_odds == pytest.approx(decision, abs=1e-9)


def test_a_probability_that_rounds_to_one_keeps_finite_log_odds(
    live: dict[str, LoadedModel], reference: tuple[np.ndarray, np.ndarray]
) -> None:
    values, _ = reference
    row = values[461] * 3
    assert live["logistic"].predictor.positive(row[None])[0] == 1.0
    found = live["logistic"].explainer.explain(row.tolist())
    assert found.method == "linear"
    assert found.clipped
    assert 36 < found.log_odds < 1000
    assert total(found) == pytest.approx(found.log_odds, abs=1e-9)


def test_the_log_odds_of_a_unanimous_forest_are_bounded(
    live: dict[str, LoadedModel], reference: tuple[np.ndarray, np.ndarray]
) -> None:
    values, _ = reference
    forest = live["random_forest"]
    unanimous = values[forest.predictor.positive(values) == 0.0]
    assert len(unanimous)
    found = forest.explainer.explain(unanimous[0].tolist())
    rows = forest.manifest.lineage.train_rows
    assert found.clipped
    assert found.log_odds == pytest.approx(logit(0.5 / (rows + 1)), abs=1e-9)
    assert live["gradient_boosting"].explainer.bound == 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_has_no_contributions(live: dict[str, LoadedModel], name: str) -> None:
    model = live[name]
    median = reference_record(model.manifest)
    found = model.explainer.explain(median)
    assert list(found.contributions.values()) == [0.0] * 30
    assert found.log_odds == pytest.approx(found.base_log_odds, abs=1e-9)
    assert tuple(found.reference_values.values()) == median
    assert found.reference_probability == float(model.predictor.positive(np.array([median]))[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_lies_in_the_middle_of_the_training_rows(
    live: dict[str, LoadedModel], reference: tuple[np.ndarray, np.ndarray], name: str
) -> None:
    """Its probability is that of the middle of the rows, not of a corner that no row is near."""
    values, _ = reference
    found = live[name].explainer.explain(values[19].tolist())
    assert list(found.reference_values.values()) == np.median(values, axis=0).tolist()
    assert found.reference == MEDIANS
    assert found.reference_probability < 0.2
    assert logit(found.reference_probability) == pytest.approx(found.base_log_odds, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_explanations_are_deterministic(
    live: dict[str, LoadedModel], reference: tuple[np.ndarray, np.ndarray], name: str
) -> None:
    values, _ = reference
    first, other = values[7].tolist(), values[8].tolist()
    again = replace(live[name]).explainer
    assert live[name].explainer.explain(first) == again.explain(first)
    assert again.explain(first) != again.explain(other)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLED)
def test_the_standard_error_is_calibrated(
    live: dict[str, LoadedModel], reference: tuple[np.ndarray, np.ndarray], name: str
) -> None:
    """Against ten times as many orders of its own, drawn apart."""
    values, _ = reference
    model = live[name]
    found = model.explainer.explain(values[19].tolist())
    centre = np.array(reference_record(model.manifest))
    ends = model.predictor.positive(np.stack([centre, values[19]]))
    # The last digits of the record are moved: nothing but the seed of the orders changes.
    moved = values[19] * (1 + 1e-15)
    bound, pairs = model.explainer.bound, 5 * (found.permutations or 0)
    more = shapley.sample(
        model.predictor.positive, centre, moved, (ends[0], ends[1]), bound, pairs=pairs
    )
    assert found.standard_errors is not None
    errors = np.array(list(found.standard_errors.values()))
    difference = np.array(list(found.contributions.values())) - more.contributions
    both = np.hypot(errors, more.standard_errors)
    # A feature that no tree splits on is credited with nothing, surely.
    assert (difference[both == 0] == 0).all()
    score = difference[both > 0] / both[both > 0]
    assert errors.max() < 0.05
    assert np.abs(score).max() < 4.5
    assert 0.5 < np.sqrt(np.mean(score**2)) < 1.6


# Small models, where everything can be enumerated -----------------------------------------------


def small_rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(300, 10))
    score = values[:, 0] + values[:, 1] * values[:, 2] + 0.5 * rng.normal(size=300)
    return values, (score > 0).astype(int)


def explainer(positive: Positive, values: np.ndarray) -> Explainer:
    ranges = np.column_stack([values.min(axis=0), values.max(axis=0)])
    names = [f"f{index}" for index in range(values.shape[1])]
    return Explainer(positive, names, ranges.mean(axis=1).round(2).tolist(), ranges, len(values))


def enumerated(positive: Positive, centre: np.ndarray, row: np.ndarray, bound: float) -> np.ndarray:
    """Shapley values by their definition, over all subsets of the features."""
    width = len(row)
    inside = np.array(list(itertools.product([False, True], repeat=width)))
    worth = np.array(
        [logit(min(max(p, bound), 1 - bound)) for p in positive(np.where(inside, row, centre))]
    )
    weights = [1 / (width * math.comb(width - 1, size)) for size in range(width)]
    bit = 1 << np.arange(width)[::-1]
    found = np.zeros(width)
    for feature in range(width):
        without = np.flatnonzero(~inside[:, feature])
        gain = worth[without + bit[feature]] - worth[without]
        found[feature] = np.dot(np.array(weights)[inside[without].sum(axis=1)], gain)
    return found


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(60, min_samples_leaf=2, random_state=0),
        GradientBoostingClassifier(n_estimators=40, random_state=0),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_estimates_agree_with_exact_shapley_values(estimator: Any) -> None:
    values, positive = small_rows()
    model = predict_with(export_onnx(estimator.fit(values, positive), 10))
    ours = explainer(model, values)
    probe = ours.explain([0.0] * 10)
    centre = np.array(list(probe.reference_values.values()))
    for row in values[:8]:
        found = ours.explain(row.tolist())
        exact = enumerated(model, centre, row, ours.bound)
        assert found.base_log_odds + exact.sum() == pytest.approx(found.log_odds, abs=1e-9)
        assert found.standard_errors is not None
        errors = np.array(list(found.standard_errors.values()))
        difference = np.abs(np.array(list(found.contributions.values())) - exact)
        assert (difference <= 4.5 * errors + 1e-9).all()
        assert difference.max() < 0.12


def test_a_feature_that_the_model_ignores_contributes_nothing() -> None:
    values, positive = small_rows()
    # A constant column is never split on.
    fixed = values.copy()
    fixed[:, 4] = 1.0
    estimator = GradientBoostingClassifier(n_estimators=30, random_state=0).fit(fixed, positive)
    ours = explainer(predict_with(export_onnx(estimator, 10)), values)
    for row in values[:5]:
        assert abs(ours.explain(row.tolist()).contributions["f4"]) <= 1e-9


def test_symmetric_features_get_equal_contributions() -> None:
    """In a model of three features that looks at the first two as one."""

    def positive(rows: np.ndarray) -> np.ndarray:
        answered: np.ndarray = 1 / (1 + np.exp(-rows[:, 0] * rows[:, 1] * (1 + rows[:, 2] ** 2)))
        return answered

    rows = np.array([[-1.0, -1.0, -1.0], [3.0, 3.0, 3.0]])
    ours = explainer(positive, rows)
    found = ours.explain([2.0, 2.0, 1.5])
    exact = enumerated(positive, np.ones(3), np.array([2.0, 2.0, 1.5]), ours.bound)
    assert exact[0] == pytest.approx(exact[1], abs=1e-12)
    assert found.standard_errors is not None
    tolerance = 4.5 * math.hypot(found.standard_errors["f0"], found.standard_errors["f1"])
    assert abs(found.contributions["f0"] - found.contributions["f1"]) <= tolerance


def test_a_nonlinear_additive_model_is_exact_and_not_linear() -> None:
    def positive(rows: np.ndarray) -> np.ndarray:
        answered: np.ndarray = 1 / (1 + np.exp(-(np.sin(rows[:, 0]) + rows[:, 1] ** 3 / 9)))
        return answered

    ours = explainer(positive, np.array([[-2.0, -2.0], [2.0, 2.0]]))
    assert ours.method == "permutation-shapley"
    found = ours.explain([1.0, -1.5])
    assert found.contributions["f0"] == pytest.approx(math.sin(1.0), abs=1e-9)
    assert found.contributions["f1"] == pytest.approx(-(1.5**3) / 9, abs=1e-9)
    assert found.standard_errors == pytest.approx({"f0": 0.0, "f1": 0.0}, abs=1e-9)


# Models that count as linear ----------------------------------------------------------------------


@pytest.mark.parametrize("strength", [1e-4, 1.0, 1e6])
def test_steep_logistic_models_are_linear(strength: float) -> None:
    """A steep one answers 0 or 1 almost everywhere: its slope is found where it does not."""
    values, positive = small_rows()
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000)).fit(
        values, (values[:, 0] + values[:, 1] > 0).astype(int) if strength > 1 else positive
    )
    ours = explainer(predict_with(export_onnx(estimator, 10)), values)
    assert ours.method == "linear"
    scaler, model = (step for _, step in estimator.steps)
    coefficients = model.coef_[0] / scaler.scale_
    for row in values[:20]:
        found = ours.explain(row.tolist())
        assert found.method == "linear"
        expected = estimator.decision_function(row[None])[0]
        assert found.log_odds == pytest.approx(expected, abs=1e-9, rel=1e-11)
        centre = np.array(list(found.reference_values.values()))
        assert np.allclose(
            list(found.contributions.values()), coefficients * (row - centre), 1e-11, 1e-9
        )


@pytest.mark.parametrize("size", [1e-3, 1e-6])
def test_a_slight_nonlinearity_is_detected(size: float) -> None:
    def positive(rows: np.ndarray) -> np.ndarray:
        bent = rows @ np.array([1.0, -2.0, 0.5]) + size * rows[:, 0] * rows[:, 1]
        answered: np.ndarray = 1 / (1 + np.exp(-bent))
        return answered

    ranges = np.array([[-1.0, 1.0]] * 3)
    assert find_linear_form(positive, np.zeros(3), ranges) is None


def test_a_single_precision_model_is_not_linear() -> None:
    def positive(rows: np.ndarray) -> np.ndarray:
        single = (1 / (1 + np.exp(-rows.sum(axis=1)))).astype(np.float32)
        return single.astype(np.float64)

    assert find_linear_form(positive, np.zeros(3), np.array([[-1.0, 1.0]] * 3)) is None


def test_a_record_outside_the_linear_range_is_sampled() -> None:
    def positive(rows: np.ndarray) -> np.ndarray:
        answered: np.ndarray = 1 / (1 + np.exp(-np.clip(rows, -3, 3).sum(axis=1)))
        return answered

    ours = explainer(positive, np.array([[-1.0, -1.0], [1.0, 1.0]]))
    assert ours.method == "linear"
    assert ours.explain([2.5, -2.0]).method == "linear"
    found = ours.explain([8.0, -2.0])
    assert found.method == "permutation-shapley"
    assert found.contributions["f0"] == pytest.approx(3.0, abs=1e-9)
    assert total(found) == pytest.approx(1.0, abs=1e-9)


def test_a_constant_model_has_no_contributions() -> None:
    ours = explainer(lambda rows: np.full(len(rows), 0.25), small_rows()[0])
    found = ours.explain([0.3] * 10)
    assert set(found.contributions.values()) == {0.0}
    assert found.log_odds == pytest.approx(logit(0.25), abs=1e-12)


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_log_odds_of_a_model_of_zeros_and_ones_are_finite(answer: float) -> None:
    ours = explainer(lambda rows: np.full(len(rows), answer), small_rows()[0])
    found = ours.explain([0.3] * 10)
    assert found.clipped
    assert math.isfinite(found.log_odds)
    assert total(found) == pytest.approx(found.log_odds, abs=1e-9)


@cache
def small_explainers() -> tuple[Explainer, ...]:
    values, positive = small_rows()
    return tuple(
        explainer(predict_with(export_onnx(estimator.fit(values, positive), 10)), values)
        for estimator in (
            make_pipeline(StandardScaler(), LogisticRegression()),
            GradientBoostingClassifier(n_estimators=5, random_state=0),
        )
    )


@given(st.lists(st.floats(-1e6, 1e6), min_size=10, max_size=10))
def test_contributions_add_up_for_any_number_of_features(row: list[float]) -> None:
    for ours in small_explainers():
        found = ours.explain(row)
        numbers = [found.base_log_odds, found.log_odds, *found.contributions.values()]
        assert all(math.isfinite(number) for number in numbers)
        # Contributions of 1e7 carry nine decimals, no more.
        scale = max(1.0, *(abs(number) * 1e-6 for number in numbers))
        assert abs(math.fsum([*numbers[2:], numbers[0]]) - numbers[1]) <= 1e-9 * scale


def test_memory_is_bounded_for_many_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of any size give what one call gives."""
    seen: list[int] = []

    def positive(rows: np.ndarray) -> np.ndarray:
        seen.append(len(rows))
        answered: np.ndarray = 1 / (1 + np.exp(-(rows[:, 0] * rows[:, 1] + rows[:, 2])))
        return answered

    row, centre = np.linspace(0.1, 1.5, 12), np.zeros(12)
    ends = (0.5, float(positive(row[None])[0]))
    whole = shapley.sample(positive, centre, row, ends, 1e-6)
    monkeypatch.setattr(shapley, "_MAX_VALUES", 12 * 24 * 50)
    seen.clear()
    parts = shapley.sample(positive, centre, row, ends, 1e-6)
    assert len(seen) > 5
    assert max(seen) <= 24 * 50
    assert np.allclose(parts.contributions, whole.contributions, rtol=0, atol=1e-12)
    assert np.allclose(parts.standard_errors, whole.standard_errors, rtol=1e-9, atol=1e-12)


def test_explaining_imports_no_training_library(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys, bc_pipeline.explanation.explainer; "
        "bad = {'sklearn', 'scipy', 'pandas', 'onnx', 'joblib'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False).returncode == 0
    )
