from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.errors import DegenerateModel
from bc_pipeline.training.threshold import sensitivity_threshold


def threshold_of(positive: list[int], probability: list[float], target: float) -> float:
    return sensitivity_threshold("A", np.array(positive), np.array(probability), target)


def test_rows_tied_at_the_threshold_are_called_together() -> None:
    assert threshold_of([1, 1, 1, 0, 0], [0.5, 0.5, 0.5, 0.5, 0.2], 1 / 4) == pytest.approx(0.35)


def test_a_threshold_fits_between_neighbouring_floats() -> None:
    lower = float(np.nextafter(0.5, 0.0))
    assert threshold_of([1, 0], [0.5, lower], 1.0) == lower


def test_no_threshold_calls_a_row_of_probability_zero() -> None:
    with pytest.raises(DegenerateModel) as caught:
        threshold_of([1, 1, 0], [0.9, 0.0, 0.1], 1.0)
    assert caught.value.candidate == "A"


def test_a_new_row_is_called_as_often_as_the_target_says() -> None:
    """With ``target * n`` rows, it would be called in 90 % here."""
    draw = np.random.default_rng(1)
    # Benign rows everywhere leave no room between a malignant row and the threshold below it.
    benign = np.linspace(0, 1, 2001).tolist()
    called = 0
    for _ in range(4000):
        *seen, new = draw.random(21)
        called += new > threshold_of([1] * 20 + [0] * 2001, seen + benign, 0.95)
    assert called / 4000 == pytest.approx(20 / 21, abs=0.012)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([0, 1]), st.sampled_from(np.linspace(0.05, 1.0, 20).tolist())),
        min_size=1,
        max_size=60,
    ).filter(lambda rows: any(label for label, _ in rows)),
    target=st.floats(0.01, 1.0),
)
def test_no_higher_threshold_would_do(rows: list[tuple[int, float]], target: float) -> None:
    positive, probability = map(np.array, zip(*rows, strict=True))
    malignant = probability[positive == 1]
    required = min(math.ceil(target * (malignant.size + 1) - 1e-9), malignant.size)

    threshold = sensitivity_threshold("A", positive, probability, target)

    assert (malignant > threshold).sum() >= required
    assert threshold not in probability
    assert (malignant > probability[probability > threshold].min()).sum() < required
