from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from bc_pipeline.artifacts.evidence import Interval, Score
from bc_pipeline.artifacts.files import decode_record, encode_record
from bc_pipeline.errors import DegenerateModel, EvidenceMismatch
from bc_pipeline.evaluation.bootstrap import row_weights
from bc_pipeline.evaluation.metrics import METRICS, lower_bound, measure
from bc_pipeline.evaluation.slices import SliceBounds

COST = 1 / 11
# Coarse probabilities, so that ties and values on the threshold come up.
ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda n: n / 20)), min_size=2, max_size=40
)


def of_sklearn(positive: np.ndarray, probability: np.ndarray, threshold: float) -> dict:
    """The same metrics, row by row, from scikit-learn."""
    called = probability > threshold
    both = 0 < positive.sum() < positive.size
    tn, fp, fn, tp = oracle.confusion_matrix(positive, called, labels=[0, 1]).ravel()
    index = np.minimum((probability * 10).astype(int), 9)
    ece = sum(
        abs(probability[index == b].mean() - positive[index == b].mean()) * (index == b).mean()
        for b in np.unique(index)
    )
    return {
        "accuracy": oracle.accuracy_score(positive, called),
        "precision": oracle.precision_score(positive, called) if tp + fp else math.nan,
        "sensitivity": oracle.recall_score(positive, called) if tp + fn else math.nan,
        "specificity": oracle.recall_score(positive, called, pos_label=0) if tn + fp else math.nan,
        "f1": oracle.f1_score(positive, called) if tp + fp + fn else math.nan,
        "f1_benign": oracle.f1_score(positive, called, pos_label=0) if tn + fp + fn else math.nan,
        "roc_auc": oracle.roc_auc_score(positive, probability) if both else math.nan,
        "brier": np.mean((probability - positive) ** 2),
        "calibration_error": ece,
        "net_benefit": tp / positive.size - fp / positive.size * COST / (1 - COST),
    }


@settings(max_examples=40, deadline=None)
@given(ROWS, st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), st.integers(0, 2**32 - 1))
def test_every_metric_of_every_resample_is_scikit_learns(
    rows: list[tuple[int, float]], threshold: float, seed: int
) -> None:
    positive = np.array([label for label, _ in rows])
    probability = np.array([p for _, p in rows])
    weights = np.vstack([np.ones(len(rows)), row_weights(len(rows), 3, seed)])
    found = measure(weights, positive, probability, threshold, COST)
    assert tuple(found) == METRICS
    for number, weight in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(len(rows)), weight)
        expected = of_sklearn(positive[drawn], probability[drawn], threshold)
        for name in METRICS:
            assert found[name][number] == pytest.approx(expected[name], abs=1e-12, nan_ok=True)


def test_the_call_is_positive_strictly_above_the_threshold(scored) -> None:
    result = scored([1, 0], [0.5, 0.5], threshold=0.5)
    assert result.confusion.true_positive == 0
    assert result.confusion.true_negative == 1


def test_net_benefit_weighs_ten_false_alarms_as_one_case(scored) -> None:
    one_case = scored([1] + [0] * 19, [1.0] + [0.0] * 19)
    ten_alarms = scored([1] + [0] * 19, [1.0] * 11 + [0.0] * 9)
    assert one_case.metrics["net_benefit"] == pytest.approx(1 / 20)
    assert ten_alarms.metrics["net_benefit"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("positive", "undefined"),
    [
        ([0, 0, 0], {"sensitivity", "roc_auc", "precision", "f1"}),
        ([1, 1, 1], {"specificity", "roc_auc", "precision"}),
        ([], set(METRICS)),
    ],
)
def test_what_the_rows_do_not_define_is_none(scored, positive, undefined) -> None:
    probability = [0.1, 0.2, 0.3][: len(positive)]
    result = scored(positive, probability, rounds=50)
    assert {name for name, value in result.metrics.items() if value is None} == undefined
    for name in undefined:
        assert result.intervals[name] == Interval(None, None, 0.95)


def test_the_same_input_gives_the_same_score_and_another_seed_other_intervals(scored) -> None:
    rng = np.random.default_rng(0)
    positive = rng.integers(0, 2, 60)
    probability = np.clip(0.3 + 0.4 * positive + rng.normal(0, 0.3, 60), 0, 1)
    first, again = scored(positive, probability), scored(positive, probability)
    assert encode_record(first) == encode_record(again)
    other = scored(positive, probability, seed=4)
    assert other.metrics == first.metrics
    assert other.intervals != first.intervals


def test_intervals_cover_the_truth_about_as_often_as_they_say(scored) -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        positive = np.ones(80, dtype=int)
        interval = scored(positive, (rng.random(80) < 0.8).astype(float)).intervals["sensitivity"]
        hits += interval.low <= 0.8 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_two_thousand_resamples_of_every_metric_are_quick(scored) -> None:
    rng = np.random.default_rng(0)
    started = time.process_time()
    for rows in (110, 455):
        positive = rng.integers(0, 2, rows)
        scored(positive, rng.random(rows), rounds=2000)
    assert time.process_time() - started < 1.5


def test_lower_bound_is_the_exact_one() -> None:
    assert lower_bound(42, 42) == pytest.approx(0.05 ** (1 / 42))
    assert round(lower_bound(42, 42), 3) == 0.931
    assert round(lower_bound(59, 59), 3) == 0.950
    assert lower_bound(0, 10) == 0.0
    assert lower_bound(0, 0) is None
    # At the bound, as many successes or more come up in 5 % of draws.
    from scipy.stats import binom

    assert binom.sf(37, 41, lower_bound(38, 41)) == pytest.approx(0.05)


def test_calibration_bins_hold_every_row_once(scored) -> None:
    result = scored([0, 0, 1, 1], [0.0, 0.1, 0.95, 1.0])
    assert [part.rows for part in result.calibration] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    last = result.calibration[-1]
    assert (last.low, last.high) == (0.9, 1.0)
    assert last.mean_probability == pytest.approx(0.975)
    assert last.observed_share == 1.0
    assert result.calibration[4].mean_probability is None


def test_slices_are_scored_apart(scored) -> None:
    values = np.array([[1.0], [2.0], [3.0], [4.0]])
    slices = (
        SliceBounds("low", 0, -math.inf, 2.5),
        SliceBounds("high", 0, 2.5, math.inf),
        SliceBounds("none", 0, 9.0, math.inf),
    )
    result = scored([1, 0, 1, 1], [0.9, 0.9, 0.9, 0.1], values=values, slices=slices)
    low, high, none = result.slices
    assert (low.rows, low.positive_rows, low.sensitivity, low.specificity) == (2, 1, 1.0, 0.0)
    assert (high.rows, high.positive_rows, high.sensitivity, high.specificity) == (2, 2, 0.5, None)
    assert (none.rows, none.sensitivity) == (0, None)


def test_the_digest_names_rows_and_labels_but_not_the_model(scored) -> None:
    first = scored([0, 1], [0.1, 0.9])
    assert scored([0, 1], [0.7, 0.2]).rows_digest == first.rows_digest
    assert scored([1, 1], [0.1, 0.9]).rows_digest != first.rows_digest
    assert scored([0, 1], [0.1, 0.9], keys=["row1", "row0"]).rows_digest != first.rows_digest


def test_a_score_survives_its_file(scored, tmp_path) -> None:
    result = scored([0, 0, 1], [0.1, 1 / 3, 0.9])
    assert decode_record(encode_record(result), Score, tmp_path / "s.json") == result


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.01, 1.01])
def test_what_is_no_probability_is_refused(scored, bad: float) -> None:
    with pytest.raises(DegenerateModel):
        scored([0, 1], [0.5, bad])
    with pytest.raises(DegenerateModel):
        scored([0, 1], [0.5, 0.5], threshold=bad)


@pytest.mark.parametrize(
    ("positive", "probability", "changes"),
    [
        ([0, 1], [0.1, 0.9], {"keys": ["a"]}),
        ([0, 1], [0.1, 0.9], {"keys": ["a", "a"]}),
        ([0, 1], [0.1, 0.9], {"values": np.zeros((3, 1))}),
        ([0, 1], [0.1, 0.2, 0.3], {}),
        ([0, 1], [[0.1], [0.2]], {}),
        ([0, 2], [0.1, 0.9], {}),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(scored, positive, probability, changes) -> None:
    with pytest.raises(EvidenceMismatch):
        scored(positive, probability, **changes)
