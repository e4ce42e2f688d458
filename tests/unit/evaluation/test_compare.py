from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bc_pipeline.errors import EvidenceMismatch
from bc_pipeline.evaluation.compare import holdout_comparisons, recipe_comparison
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import Margin

COST = 1 / 11


@pytest.fixture
def policy(wdbc: Problem):
    return replace(wdbc.gate, bootstrap_rounds=500)


@pytest.fixture
def truth() -> np.ndarray:
    return np.array([1] * 40 + [0] * 70)


def by_metric(comparisons) -> dict:
    return {comparison.metric: comparison for comparison in comparisons}


def test_an_identical_pair_has_no_gain_at_all(policy, scored, truth) -> None:
    probability = np.random.default_rng(1).random(110)
    same = scored(truth, probability)
    found = holdout_comparisons(policy, same, same, COST)
    assert [comparison.metric for comparison in found] == [m.metric for m in policy.margins]
    for comparison in found:
        assert comparison.gain == 0.0
        assert (comparison.interval.low, comparison.interval.high) == (0.0, 0.0)
        assert comparison.p_value == 1.0


def test_a_gain_is_positive_where_the_challenger_is_better_whatever_the_metric(
    policy, scored, truth
) -> None:
    poor = scored(truth, np.where(truth == 1, 0.45, 0.55))
    good = scored(truth, np.where(truth == 1, 0.9, 0.1))
    for comparison in holdout_comparisons(policy, poor, good, COST):
        assert comparison.gain > 0.0
        assert comparison.interval.low > 0.0
        assert comparison.p_value == pytest.approx(1 / 501)
    for comparison in holdout_comparisons(policy, good, poor, COST):
        assert comparison.gain < 0.0
        assert comparison.interval.high < 0.0
        assert comparison.p_value == 1.0


def test_pairing_removes_the_variation_of_the_rows(policy, scored, truth) -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0.0, 0.2, 110)
    champion = scored(truth, np.clip(0.35 + 0.3 * truth + noise, 0, 1))
    challenger = scored(truth, np.clip(0.33 + 0.34 * truth + noise, 0, 1))
    paired = by_metric(holdout_comparisons(policy, champion, challenger, COST))["brier"].interval
    alone = challenger.intervals["brier"]
    assert paired.high - paired.low < (alone.high - alone.low) / 3
    assert paired.low > 0.0


def test_a_metric_that_is_undefined_has_no_gain(policy, scored) -> None:
    benign = scored([0] * 20, np.linspace(0, 0.4, 20))
    found = by_metric(holdout_comparisons(policy, benign, benign, COST))
    assert (found["sensitivity"].gain, found["sensitivity"].interval) == (None, None)
    assert found["sensitivity"].p_value is None
    assert found["brier"].gain == 0.0


def test_no_rows_give_no_gain(policy, scored) -> None:
    nothing = scored([], [])
    for comparison in holdout_comparisons(policy, nothing, nothing, COST):
        assert comparison.gain is None


def test_other_rows_cannot_be_compared(policy, scored) -> None:
    one, other = scored([0, 1], [0.1, 0.9]), scored([1, 1], [0.1, 0.9])
    with pytest.raises(EvidenceMismatch) as caught:
        holdout_comparisons(policy, one, other, COST)
    assert caught.value.champion == one.rows_digest
    assert caught.value.challenger == other.rows_digest


def test_the_policy_says_which_metrics_are_compared(policy, scored, truth) -> None:
    only = replace(policy, margins=(Margin("roc_auc", 0.01, "higher"),))
    good = scored(truth, truth * 0.8)
    (found,) = holdout_comparisons(only, good, good, COST)
    assert (found.metric, found.method) == ("roc_auc", "paired_bootstrap")


def test_recipes_differ_where_every_fold_agrees() -> None:
    rng = np.random.default_rng(3)
    champion = 0.03 + rng.normal(0, 0.005, (10, 5))
    challenger = champion - 0.008 + rng.normal(0, 0.001, (10, 5))
    found = recipe_comparison(champion, challenger, folds=5)
    assert found.gain == pytest.approx(0.008, abs=0.001)
    assert found.p_value < 0.001
    assert found.interval.low > 0.0
    assert found.champion == pytest.approx(champion.mean())
    # Nadeau and Bengio's variance: folds of five test on a quarter as many rows as they train on.
    gains = (champion - challenger).ravel()
    error = np.sqrt((1 / 50 + 1 / 4) * gains.var(ddof=1))
    assert found.interval.low == pytest.approx(gains.mean() - stats.t.ppf(0.975, 49) * error)
    turned = recipe_comparison(challenger, champion, folds=5)
    assert turned.gain == pytest.approx(-found.gain)
    assert turned.p_value > 0.999


def test_recipes_within_noise_do_not_differ() -> None:
    rng = np.random.default_rng(4)
    losses = 0.03 + rng.normal(0, 0.005, (2, 10, 5))
    assert recipe_comparison(*losses, folds=5).p_value > 0.05


def test_a_loss_that_is_not_finite_gives_no_p_value() -> None:
    losses = np.full((10, 5), 0.03)
    broken = losses.copy()
    broken[0, 0] = np.nan
    found = recipe_comparison(losses, broken, folds=5)
    assert (found.gain, found.p_value, found.challenger) == (None, None, None)
    assert (found.interval.low, found.interval.high) == (None, None)


@pytest.mark.parametrize(("shape", "folds"), [((9, 5), 5), ((10, 4), 5), ((10, 5), 4), ((50,), 5)])
def test_other_folds_cannot_be_compared(shape, folds) -> None:
    with pytest.raises(EvidenceMismatch):
        recipe_comparison(np.zeros((10, 5)), np.zeros(shape), folds=folds)
