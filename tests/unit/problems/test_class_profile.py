from __future__ import annotations

import numpy as np
import pytest

from bc_pipeline.problems.class_profile import ClassProfile
from bc_pipeline.problems.wdbc import WDBC


def test_the_shipped_profile_is_that_of_the_public_rows() -> None:
    reference = WDBC.load_reference()
    computed = ClassProfile.of_rows(reference.values, reference.codes == 0)
    shipped = WDBC.class_profile
    for part in ("positive", "negative", "spread", "slope", "offset"):
        assert getattr(shipped, part) == pytest.approx(getattr(computed, part), rel=1e-4)


def test_its_log_odds_tell_the_classes_apart_and_are_calibrated_in_the_clear_rows() -> None:
    reference = WDBC.load_reference()
    log_odds = WDBC.class_profile.log_odds(reference.values)
    right = (log_odds > 0) == (reference.codes == 0)
    assert right.mean() > 0.93
    assert right[np.abs(log_odds) > 3].mean() > 0.97


def test_a_feature_that_does_not_vary_counts_nothing() -> None:
    generator = np.random.default_rng(1)
    positive = np.arange(40) % 2 == 0
    values = np.column_stack([np.full(40, 7.0), positive * 2 + generator.normal(size=40)])
    profile = ClassProfile.of_rows(values, positive)
    log_odds = profile.log_odds(values)
    assert np.isfinite(log_odds).all()
    assert log_odds[positive].mean() > 0 > log_odds[~positive].mean()


def test_a_problem_without_a_shipped_profile_has_that_of_its_reference() -> None:
    from dataclasses import replace

    problem = replace(WDBC, profile=None)
    assert problem.class_profile.slope == pytest.approx(WDBC.class_profile.slope, rel=1e-3)
