from __future__ import annotations

import numpy as np
import pytest

from bc_pipeline.artifacts.files import encode_document
from bc_pipeline.errors import EvidenceMismatch
from bc_pipeline.evaluation.importance import permutation_importance

NAMES = ("noise", "signal", "weak")


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    values = np.random.default_rng(0).normal(size=(120, 3))
    return values, (values[:, 1] > 0).astype(np.int8)


def predict(values: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-3.0 * values[:, 1] - 0.3 * values[:, 2]))


def test_the_most_important_feature_comes_first(rows) -> None:
    found = permutation_importance(predict, *rows, NAMES, seed=1)
    assert [entry.feature for entry in found.features] == ["signal", "weak", "noise"]
    signal, _, noise = found.features
    assert signal.mean > 10 * signal.deviation
    assert (noise.mean, noise.deviation) == (0.0, 0.0)
    assert found.brier == pytest.approx(np.mean((predict(rows[0]) - rows[1]) ** 2))


def test_the_seed_decides_the_shuffles_and_values_stay_as_they_were(rows) -> None:
    before = rows[0].copy()
    first = permutation_importance(predict, *rows, NAMES, seed=1)
    assert encode_document(
        permutation_importance(predict, *rows, NAMES, seed=1)
    ) == encode_document(first)
    assert permutation_importance(predict, *rows, NAMES, seed=2).features != first.features
    assert (rows[0] == before).all()


def test_means_agree_with_scikit_learn(rows) -> None:
    from sklearn.inspection import permutation_importance as oracle
    from sklearn.linear_model import LogisticRegression

    values, positive = rows
    fitted = LogisticRegression().fit(values, positive)
    expected = oracle(
        fitted, values, positive, scoring="neg_brier_score", n_repeats=300, random_state=0
    ).importances_mean
    found = permutation_importance(
        lambda v: fitted.predict_proba(v)[:, 1], values, positive, NAMES, seed=1, shuffles=300
    )
    by_name = {entry.feature: entry.mean for entry in found.features}
    assert [by_name[name] for name in NAMES] == pytest.approx(expected, abs=0.005)


def test_rows_that_do_not_fit_are_refused(rows) -> None:
    with pytest.raises(EvidenceMismatch):
        permutation_importance(predict, rows[0], rows[1][:-1], NAMES, seed=1)
    with pytest.raises(EvidenceMismatch):
        permutation_importance(predict, rows[0][:0], rows[1][:0], NAMES, seed=1)
