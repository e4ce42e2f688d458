from __future__ import annotations

import math

import numpy as np
import pytest

from bc_pipeline.artifacts.evidence import Interval, Score
from bc_pipeline.artifacts.files import decode_document, encode_document
from bc_pipeline.data.split import SplitSide
from bc_pipeline.errors import DegenerateModel, EvidenceMismatch
from bc_pipeline.evaluation.metrics import METRICS
from bc_pipeline.evaluation.scores import score_calls
from bc_pipeline.evaluation.slices import SliceBounds


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
def test_undefined_metrics_are_none(scored, positive, undefined) -> None:
    probability = [0.1, 0.2, 0.3][: len(positive)]
    result = scored(positive, probability)
    assert {name for name, value in result.metrics.items() if value is None} == undefined
    for name in undefined - {"calibration_error"}:
        assert result.intervals[name] == Interval(None, None, 0.95)


def test_the_same_input_gives_the_same_score(scored) -> None:
    rng = np.random.default_rng(0)
    positive = rng.integers(0, 2, 60)
    probability = np.clip(0.3 + 0.4 * positive + rng.normal(0, 0.3, 60), 0, 1)
    assert encode_document(scored(positive, probability)) == encode_document(
        scored(positive, probability)
    )


def test_every_metric_but_the_calibration_error_lies_in_its_interval(scored) -> None:
    rng = np.random.default_rng(0)
    positive = rng.integers(0, 2, 60)
    result = scored(positive, np.clip(0.3 + 0.4 * positive + rng.normal(0, 0.3, 60), 0, 1))
    assert result.intervals.keys() == set(METRICS) - {"calibration_error"}
    for name, interval in result.intervals.items():
        assert interval.low < result.metrics[name] < interval.high


def test_a_sample_without_an_error_has_an_interval_all_the_same(scored) -> None:
    result = scored([1] * 40 + [0] * 60, [0.9] * 40 + [0.1] * 60)
    assert result.intervals["sensitivity"].low == pytest.approx(0.912, abs=0.001)
    assert result.intervals["roc_auc"].low == pytest.approx(0.949, abs=0.01)
    assert result.intervals["f1"].low < 0.96
    # All losses are equal: nothing tells how much they vary.
    assert result.intervals["brier"] == Interval(None, None, 0.95)


def test_calls_are_scored_as_if_they_were_probabilities(scored, wdbc) -> None:
    rng = np.random.default_rng(2)
    positive = rng.integers(0, 2, 50).astype(np.int8)
    called = rng.random(50) < 0.3 + 0.5 * positive
    rows = SplitSide(tuple(f"row{i}" for i in range(50)), np.zeros((50, 1)), positive)

    calls = score_calls(wdbc, rows, called)

    expected = scored(positive, called.astype(float))
    assert calls.rows_digest == expected.rows_digest
    assert calls.confusion == expected.confusion
    assert calls.metrics == {name: expected.metrics[name] for name in calls.metrics}
    assert calls.intervals == {name: expected.intervals[name] for name in calls.metrics}
    assert "sensitivity" in calls.metrics
    assert "brier" not in calls.metrics


def test_calibration_bins_hold_every_row_once(scored) -> None:
    result = scored([0, 0, 1, 1], [0.0, 0.1, 0.95, 1.0])
    assert [part.rows for part in result.calibration] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    last = result.calibration[-1]
    assert (last.low, last.high) == (0.9, 1.0)
    assert last.mean_probability == pytest.approx(0.975)
    assert last.observed_share == 1.0
    assert result.calibration[4].mean_probability is None


def test_slices_are_scored_separately(scored) -> None:
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
    assert decode_document(encode_document(result), Score, tmp_path / "s.json") == result


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.01, 1.01])
def test_values_that_are_not_probabilities_are_refused(scored, bad: float) -> None:
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
