from __future__ import annotations

import math

import numpy as np
import pytest

from bc_pipeline.betting_test import BETS, log_e_values


def test_it_is_the_mean_capital_of_the_bets() -> None:
    gains = np.array([0.5, -0.2])
    capital = [(1 + bet * 0.5) * (1 - bet * 0.2) for bet in BETS]

    assert log_e_values(gains)[-1] == pytest.approx(math.log(np.mean(capital)))
    assert log_e_values(gains)[0] == pytest.approx(math.log(1 + np.mean(BETS) * 0.5))


def test_the_order_of_the_rows_does_not_matter() -> None:
    gains = np.random.default_rng(2).uniform(-1, 1, 300)

    assert log_e_values(gains)[-1] == pytest.approx(log_e_values(gains[::-1])[-1])


def test_it_stays_finite_where_every_bet_loses_or_wins() -> None:
    assert np.isfinite(log_e_values(np.full(5000, -1.0))).all()
    assert np.isfinite(log_e_values(np.full(5000, 1.0))).all()
    assert log_e_values(np.array([])).size == 0


def test_looks_at_every_row_do_not_find_a_gain_that_is_not_there() -> None:
    """Rare large losses and frequent small gains, with a mean of zero."""
    draw = np.random.default_rng(4)
    gains = np.where(draw.random((2000, 1000)) < 0.05, -0.57, 0.03)

    found = [bool((log_e_values(row) >= math.log(1 / 0.05)).any()) for row in gains]
    # .05, and three standard errors of 2000 replays.
    assert np.mean(found) <= 0.065


def test_it_finds_a_gain() -> None:
    gains = np.random.default_rng(5).choice([-0.2, 0.3], 1000)

    assert log_e_values(gains)[-1] > math.log(1000)


@pytest.mark.parametrize("gain", [1.1, -1.1, math.nan, math.inf])
def test_it_refuses_a_gain_that_no_bet_allows(gain: float) -> None:
    with pytest.raises(ValueError, match="between -1 and 1"):
        log_e_values(np.array([0.0, gain]))
