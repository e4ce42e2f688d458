"""The gate against real models: spoilt ones must not pass, an equal one must."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bc_pipeline.artifacts.evidence import Comparison, Evaluation, Interval, Parity
from bc_pipeline.artifacts.verdict import Smoke, Verdict
from bc_pipeline.data.split import SplitSide, hash_position
from bc_pipeline.evaluation.evaluate import evaluate
from bc_pipeline.evaluation.importance import permutation_importance
from bc_pipeline.problems.base import Problem
from bc_pipeline.promotion.gate import decide
from bc_pipeline.schema import row_key
from tests.fake_predictor import FakePredictor, Predict

pytestmark = pytest.mark.integration

PARITY = Parity(rows=100, worst_difference=0.0, flips=0)
SMOKE = Smoke(passed=True, rows=20, worst_difference=0.0, median_ms=1.0)
SEEDED = settings(max_examples=6, deadline=None, derandomize=True)


@dataclass(frozen=True)
class Model:
    under_test: FakePredictor
    oof: np.ndarray
    train: SplitSide

    def but(self, **changes: Any) -> Model:
        return replace(self, under_test=replace(self.under_test, **changes))


@dataclass(frozen=True)
class Wdbc:
    """The public rows under the pinned split, with the problem's own bounds."""

    problem: Problem
    train: SplitSide
    holdout: SplitSide

    def fit(self, rows: SplitSide, candidate: str = "logistic") -> Model:
        """Fit with one round of cross-validation, and set the threshold on it."""
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from threadpoolctl import threadpool_limits

        recipe, target = self.problem.candidate(candidate), 0.97
        folds = StratifiedKFold(5, shuffle=True, random_state=1)
        build = recipe.build(recipe.params, 0)
        # Small matrices: more threads than one only get in each other's way.
        with threadpool_limits(1):
            oof = cross_val_predict(
                build, rows.values, rows.positive, cv=folds, method="predict_proba"
            )
            fitted = build.fit(rows.values, rows.positive)
        ranked = np.sort(oof[rows.positive == 1, 1])
        model = FakePredictor(
            version=f"{candidate}-{len(rows.keys)}",
            recipe=recipe.recipe,
            title=recipe.title,
            dataset="d",
            as_of="2026-11-15T00:00:00Z",
            schema_fingerprint=self.problem.schema.fingerprint,
            threshold=float(np.nextafter(ranked[int((1 - target) * ranked.size)], 0.0)),
            positive=lambda values: fitted.predict_proba(values)[:, 1],
        )
        return Model(model, oof[:, 1], rows)

    def evaluate(self, champion: Model | None, challenger: Model) -> Evaluation:
        return evaluate(
            self.problem,
            challenger=replace(challenger.under_test, version="challenger"),
            champion=replace(champion.under_test, version="champion") if champion else None,
            champion_generation=1,
            train=challenger.train,
            holdout=self.holdout,
            oof_probability=challenger.oof,
            nested_call=challenger.oof > challenger.under_test.manifest.threshold,
            losses={},
            parity=PARITY,
        )

    def judge(self, champion: Model | None, challenger: Model) -> Verdict:
        return decide(
            self.problem.gate, self.problem.labels, self.evaluate(champion, challenger), SMOKE
        )


@pytest.fixture(scope="module")
def world(wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> Wdbc:
    values, codes = reference
    keys = tuple(row_key(row) for row in values)
    rows = SplitSide(keys, values, wdbc.labels.to_positive(codes))
    policy = wdbc.split
    held = np.array([hash_position(policy.salt, key) < policy.holdout_share for key in keys])
    # Fewer resamples than in production: the tests ask for many verdicts.
    problem = replace(wdbc, gate=replace(wdbc.gate, bootstrap_rounds=500))
    return Wdbc(problem, rows.take(np.flatnonzero(~held)), rows.take(np.flatnonzero(held)))


@pytest.fixture(scope="module")
def champion(world: Wdbc) -> Model:
    return world.fit(world.train)


def answering(model: Model, change: Callable[[Predict, np.ndarray], np.ndarray]) -> Model:
    sound = model.under_test.positive
    return model.but(positive=lambda values: change(sound, values))


def test_the_champion_is_good_enough_to_be_first(world: Wdbc, champion: Model) -> None:
    verdict = world.judge(None, champion)
    assert verdict.reasons == ()
    assert verdict.passed


def test_an_identical_model_passes_as_equal(world: Wdbc, champion: Model) -> None:
    verdict = world.judge(champion, champion)
    assert (verdict.kind, verdict.passed, verdict.better) == ("refresh", True, False)


@SEEDED
@given(st.integers(0, 2**32 - 1))
def test_an_equal_refresh_passes(world: Wdbc, champion: Model, seed: int) -> None:
    chosen = np.random.default_rng(seed).permutation(len(world.train.keys))[:-8]
    before = world.fit(world.train.take(np.sort(chosen)))
    verdict = world.judge(before, champion)
    assert verdict.passed, verdict.reasons


@SEEDED
@given(st.integers(0, 2**32 - 1))
def test_flipped_labels_never_pass(world: Wdbc, champion: Model, seed: int) -> None:
    draw, rows = np.random.default_rng(seed), world.train
    positive = rows.positive.copy()
    wrong = draw.choice(len(positive), int(0.3 * len(positive)), replace=False)
    positive[wrong] = 1 - positive[wrong]
    worse = world.fit(replace(rows, positive=positive))
    for production in (champion, None):
        assert not world.judge(production, worse).passed
    # Not even where the flipped labels are kept out of its own evidence.
    hidden = replace(worse, oof=champion.oof, train=champion.train)
    assert not world.judge(champion, hidden).passed


@pytest.mark.parametrize("spoil", ["zeroed", "shuffled"])
def test_a_lost_important_feature_never_passes(world: Wdbc, champion: Model, spoil: str) -> None:
    ranked = permutation_importance(
        champion.under_test.positive,
        world.holdout.values,
        world.holdout.positive,
        world.problem.schema.names,
        seed=1,
    )
    for rank, entry in enumerate(ranked.features[:3]):
        column = world.problem.schema.names.index(entry.feature)

        def change(predict: Predict, values: np.ndarray, column=column, rank=rank) -> np.ndarray:
            spoilt = values.copy()
            if spoil == "zeroed":
                spoilt[:, column] = 0.0
            else:
                spoilt[:, column] = np.random.default_rng(rank).permutation(spoilt[:, column])
            return predict(spoilt)

        verdict = world.judge(champion, answering(champion, change))
        assert not verdict.passed, entry.feature


def test_a_leak_in_all_rows_never_passes(world: Wdbc) -> None:
    """It is perfect on the holdout and in cross-validation, which no floor refuses."""
    column = world.problem.schema.names.index("symmetry_error")

    def leaky(rows: SplitSide) -> SplitSide:
        values, noise = rows.values.copy(), np.random.default_rng(5).normal(0, 0.02, len(rows.keys))
        known = values[:, column]
        values[:, column] = np.median(known) + known.std() * (rows.positive + noise)
        return replace(rows, values=values)

    rows = replace(world, train=leaky(world.train), holdout=leaky(world.holdout))
    verdict = rows.judge(None, rows.fit(rows.train))
    assert {check.name for check in verdict.checks if not check.passed} == {"plausible_brier"}


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.98, 1.0])
def test_a_moved_threshold_never_passes(world: Wdbc, champion: Model, threshold: float) -> None:
    moved = champion.but(threshold=threshold)
    assert not world.judge(champion, moved).passed
    assert not world.judge(None, moved).passed


@settings(max_examples=15, deadline=None)
@given(st.floats(0.0, 1.0))
def test_a_constant_probability_never_passes(world: Wdbc, champion: Model, p: float) -> None:
    constant = answering(champion, lambda _, values: np.full(len(values), p))
    assert not world.judge(champion, constant).passed
    assert not world.judge(None, constant).passed


def test_inverted_probabilities_never_pass(world: Wdbc, champion: Model) -> None:
    inverted = answering(champion, lambda predict, values: 1.0 - predict(values))
    assert not world.judge(champion, inverted).passed
    assert not world.judge(None, inverted).passed


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 109), min_size=1, max_size=30, unique=True),
    st.floats(0.0, 1.0),
    st.sampled_from([0.0, 0.1, 0.3]),
)
def test_answering_worse_on_any_row_never_helps(
    world: Wdbc, champion: Model, never_better: Any, rows: list[int], how: float, blur: float
) -> None:
    """Moving a row's probability to the wrong side worsens each resample it is in.

    Calibration alone is no such metric; the policy has no floor on it for the holdout.
    """
    assert not [
        floor
        for floor in world.problem.gate.floors
        if floor.rows == "holdout" and floor.metric == "calibration_error"
    ]
    noise = np.random.default_rng(0).uniform(-blur, blur, 110)
    base = answering(champion, lambda predict, v: np.clip(predict(v) + noise, 0, 1))
    wrong = 1 - world.holdout.positive

    def spoil(predict: Predict, values: np.ndarray) -> np.ndarray:
        answers = predict(values).copy()
        answers[rows] += how * (wrong[rows] - answers[rows])
        return answers

    worse = answering(base, spoil)
    assert never_better(world.judge(champion, worse), world.judge(champion, base))


def test_another_recipe_without_evidence_keeps_the_champion(world: Wdbc, champion: Model) -> None:
    other = champion.but(recipe="svm_rbf-0")
    verdict = world.judge(champion, other)
    assert (verdict.kind, verdict.passed) == ("switch", False)
    tie = msgspec.structs.replace(
        world.evaluate(champion, other),
        recipe_comparison=Comparison(
            "brier",
            "corrected_resampled_t",
            0.0208,
            0.0195,
            0.0013,
            Interval(-0.001, 0.0036, 0.95),
            0.13,
        ),
    )
    assert [
        r
        for r in decide(world.problem.gate, world.problem.labels, tie, SMOKE).reasons
        if "tie keeps" in r
    ]
