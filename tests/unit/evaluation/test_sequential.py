from __future__ import annotations

import math

import numpy as np
import pytest

from bc_pipeline.betting_test import log_e_values
from bc_pipeline.evaluation.sequential import sequential_evidence

POSITIVE = np.array([1, 0, 1, 0])


def test_it_compares_the_rows_that_both_predicted() -> None:
    champion = np.array([math.nan, 0.4, 0.6, 0.2])
    challenger = np.array([0.9, math.nan, 0.9, 0.1])
    evidence = sequential_evidence(POSITIVE, champion, challenger, 3)

    assert (evidence.rows, evidence.recipes) == (2, 3)
    assert evidence.champion == pytest.approx((0.16 + 0.04) / 2)
    assert evidence.challenger == pytest.approx((0.01 + 0.01) / 2)
    gains = np.array([0.16 - 0.01, 0.04 - 0.01])
    assert evidence.log_e == pytest.approx(log_e_values(gains)[-1])


def test_without_rows_there_is_no_evidence() -> None:
    unknown = np.full(4, math.nan)
    evidence = sequential_evidence(POSITIVE, unknown, unknown, 1)

    assert (evidence.rows, evidence.champion, evidence.log_e) == (0, None, 0.0)
