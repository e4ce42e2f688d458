from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bc_pipeline.artifacts.evidence import Interval
from bc_pipeline.evaluation.intervals import (
    auc_interval,
    f1_interval,
    mean_interval,
    share_lower_bound,
    skewed_mean_interval,
    wilson_interval,
)

NONE = Interval(None, None, 0.95)


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (3, 7), (40, 41), (41, 41)])
def test_the_interval_of_a_share_is_scipys(hits: int, trials: int) -> None:
    expected = stats.binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    found = wilson_interval(hits, trials, 0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_f1_takes_its_limits_from_the_share_of_hits() -> None:
    share, found = wilson_interval(40, 44, 0.95), f1_interval(40, 4, 0.95)
    assert found.low == pytest.approx(2 * share.low / (1 + share.low))
    assert found.low < 2 * 40 / (2 * 40 + 4) < found.high


def test_the_limits_of_an_area_are_z_of_their_own_errors_away() -> None:
    # Newcombe, 2006: the variance of an area t, by Hanley and McNeil.
    def error(t: float, m: int, n: int) -> float:
        size = (m + n) / 2
        spread = 1 + (size - 1) * ((1 - t) / (2 - t) + t / (1 + t))
        return math.sqrt(t * (1 - t) * spread / (m * n))

    for auc in (0.5, 0.9, 0.995, 1.0):
        found = auc_interval(auc, 41, 69, 0.95)
        assert auc - found.low == pytest.approx(1.959964 * error(found.low, 41, 69), rel=1e-4)
    assert found.high == 1.0
    assert auc_interval(0.1, 41, 69, 0.95).high == pytest.approx(
        1 - auc_interval(0.9, 41, 69, 0.95).low
    )
    assert auc_interval(0.0, 41, 69, 0.95).low == 0.0


def test_the_mean_of_symmetric_values_has_the_usual_interval() -> None:
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0] * 20)
    skewed, student = skewed_mean_interval(values, 0.95), mean_interval(values, 0.95)
    error = values.std(ddof=1) / 10
    assert skewed.high == pytest.approx(1.959964 * error, rel=1e-5)
    assert student.high == pytest.approx(stats.t.ppf(0.975, 99) * error)


def test_a_skewed_mean_reaches_further_to_the_side_of_its_tail() -> None:
    values = np.array([0.0] * 95 + [0.5] * 5)
    found, mean = skewed_mean_interval(values, 0.95), values.mean()
    assert found.high - mean > 1.5 * (mean - found.low) > 0


@pytest.mark.parametrize(
    ("interval", "low"),
    [
        ("share", 0.935),
        ("f1", 0.93),
        ("auc", 0.93),
        ("brier", 0.93),
    ],
)
def test_intervals_cover_the_truth_of_a_good_model_as_often_as_they_say(
    truth: dict[str, float], interval: str, low: float
) -> None:
    """Few errors among a hundred rows, where a bootstrap covers in .74 to .92 of samples."""
    draw = np.random.default_rng(7)
    covered, rounds = 0, 600
    for _ in range(rounds):
        positive = draw.random(110) < 0.37
        logit = draw.logistic(size=110) * 1.6 + np.where(positive, 4.2, -4.2)
        probability = 1 / (1 + np.exp(-logit))
        found, value = _interval_and_truth(interval, positive, probability, truth)
        covered += found.low <= value <= found.high
    assert covered / rounds >= low


def _interval_and_truth(
    name: str, positive: np.ndarray, probability: np.ndarray, truth: dict[str, float]
) -> tuple[Interval, float]:
    called, m = probability > 0.5, int(positive.sum())
    if name == "share":
        return wilson_interval(int(called[positive].sum()), m, 0.95), truth[name]
    if name == "f1":
        errors = int((called != positive).sum())
        return f1_interval(int(called[positive].sum()), errors, 0.95), truth[name]
    if name == "auc":
        area = (probability[positive][:, None] > probability[~positive]).mean()
        return auc_interval(float(area), m, 110 - m, 0.95), truth[name]
    return skewed_mean_interval((probability - positive) ** 2, 0.95), truth[name]


@pytest.fixture(scope="module")
def truth() -> dict[str, float]:
    """The same quantities of half a million rows."""
    draw = np.random.default_rng(8)
    positive = draw.random(500_000) < 0.37
    logit = draw.logistic(size=500_000) * 1.6 + np.where(positive, 4.2, -4.2)
    probability = 1 / (1 + np.exp(-logit))
    called = probability > 0.5
    hits, errors = (called & positive).sum(), (called != positive).sum()
    ranks = stats.rankdata(probability)
    m, n = positive.sum(), (~positive).sum()
    return {
        "share": called[positive].mean(),
        "f1": 2 * hits / (2 * hits + errors),
        "auc": (ranks[positive].sum() - m * (m + 1) / 2) / (m * n),
        "brier": ((probability - positive) ** 2).mean(),
    }


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert wilson_interval(0, 0, 0.95) == NONE
    assert f1_interval(0, 0, 0.95) == NONE
    assert auc_interval(math.nan, 0, 5, 0.95) == NONE
    for values in ([], [0.3], [0.2, 0.2, 0.2]):
        assert skewed_mean_interval(np.array(values), 0.95) == NONE
        assert mean_interval(np.array(values), 0.95) == NONE


def test_lower_bound_is_the_exact_one() -> None:
    assert share_lower_bound(42, 42) == pytest.approx(0.05 ** (1 / 42))
    assert round(share_lower_bound(42, 42), 3) == 0.931
    assert round(share_lower_bound(59, 59), 3) == 0.950
    assert share_lower_bound(0, 10) == 0.0
    assert share_lower_bound(0, 0) is None
    # At the bound, as many successes or more come up in 5 % of draws.
    assert stats.binom.sf(37, 41, share_lower_bound(38, 41)) == pytest.approx(0.05)
