"""Evidence made by hand, so that a test decides every number the gate sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts.evidence import (
    CallScore,
    Comparison,
    Confusion,
    Evaluation,
    Interval,
    Parity,
    Score,
    Side,
    SliceScore,
    labelled_rows_digest,
)
from bc_pipeline.artifacts.verdict import Smoke, Verdict
from bc_pipeline.problems.policies import Floor, GatePolicy, Margin
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.promotion.gate import decide

POLICY = GatePolicy(
    floors=(
        Floor("sensitivity", "cross_validation", 0.93),
        Floor("calibration_error", "cross_validation", 0.06, "at_most"),
        Floor("sensitivity", "holdout", 0.90),
        Floor("f1", "holdout", 0.90),
        Floor("brier", "holdout", 0.06, "at_most"),
    ),
    f1_tie=0.025,
    margins=(
        Margin("sensitivity", 0.05, "higher"),
        Margin("f1", 0.03, "higher"),
        Margin("brier", 0.006, "lower", negligible=0.001),
    ),
    switch_alpha=0.05,
    slice_minimum_rows=8,
    slice_sensitivity=0.75,
    parity_bound=1e-12,
    smoke_latency_ms=50.0,
)
GOOD = {"sensitivity": 0.97, "f1": 0.96, "brier": 0.02, "calibration_error": 0.02, "roc_auc": 0.99}
LOWER_IS_BETTER = frozenset({"brier", "calibration_error"})


def make_score(
    metrics: dict[str, float | None],
    rows: str = "holdout",
    slices: tuple[SliceScore, ...] | None = None,
) -> Score:
    keys = tuple(f"{rows}{i}" for i in range(10))
    positive = (1, 0) * 5
    if slices is None:
        slices = (
            SliceScore("small", 60, 5, 0.2, 1.0),
            SliceScore("large", 50, 36, 0.97, 0.9),
        )
    return Score(
        rows_digest=labelled_rows_digest(keys, positive),
        threshold=0.4,
        keys=keys,
        positive=positive,
        probability=tuple(0.8 if label else 0.1 for label in positive),
        confusion=Confusion(5, 0, 5, 0),
        metrics=metrics,
        intervals={name: Interval(0.9, 0.99, 0.95) for name in metrics},
        sensitivity_lower_bound=0.9,
        calibration=(),
        slices=slices,
    )


def make_comparison(
    metric: str, champion: float | None, challenger: float | None, width: float = 0.03
) -> Comparison:
    """A paired bootstrap whose interval reaches `width` to both sides of the gain."""
    if champion is None or challenger is None:
        return Comparison(metric, "paired_bootstrap", champion, challenger, None)
    gain = champion - challenger if metric in LOWER_IS_BETTER else challenger - champion
    interval = Interval(gain - width, gain + width, 0.95)
    return Comparison(metric, "paired_bootstrap", champion, challenger, gain, interval, 0.5)


@dataclass(frozen=True)
class Evidence:
    """All that a verdict needs; `but` gives the same with some parts exchanged."""

    policy: GatePolicy = POLICY
    champion: dict[str, float | None] | None = field(default_factory=lambda: dict(GOOD))
    challenger: dict[str, float | None] = field(default_factory=lambda: dict(GOOD))
    cross_validation: dict[str, float | None] = field(default_factory=lambda: dict(GOOD))
    widths: dict[str, float] = field(default_factory=lambda: {"brier": 0.002})
    recipes: Comparison | None = None
    champion_side: dict[str, Any] = field(default_factory=dict)
    challenger_side: dict[str, Any] = field(default_factory=dict)
    parity: Parity = field(default_factory=lambda: Parity(100, 1e-16, 0))
    smoke: Smoke = field(default_factory=lambda: Smoke(True, 20, 1e-16, 1.5))

    def but(self, **changes: Any) -> Evidence:
        return replace(self, **changes)

    def but_metrics(self, part: str, **metrics: float | None) -> Evidence:
        return replace(self, **{part: {**getattr(self, part), **metrics}})

    def switch(self, gain: float | None = 0.01, p_value: float | None = 0.01) -> Evidence:
        return self.but(
            challenger_side={"recipe": "svm-2"},
            recipes=Comparison(
                "brier",
                "corrected_resampled_t",
                0.03,
                None if gain is None else 0.03 - gain,
                gain,
                Interval(None, None, 0.95),
                p_value,
            ),
        )

    @property
    def evaluation(self) -> Evaluation:
        def side(version: str, as_of: str, score: Score, changes: dict[str, Any]) -> Side:
            plain = Side(version, "logistic-1", "Logistic regression", "d", as_of, "schema", score)
            return msgspec.structs.replace(plain, **changes)

        champion, comparisons = None, ()
        if self.champion is not None:
            score = make_score(self.champion)
            champion = side("v1", "2026-11-08T00:00:00Z", score, self.champion_side)
            comparisons = tuple(
                make_comparison(
                    margin.metric,
                    self.champion[margin.metric],
                    self.challenger[margin.metric],
                    self.widths.get(margin.metric, 0.03),
                )
                for margin in self.policy.margins
            )
        return Evaluation(
            problem="toy",
            challenger=side(
                "v2", "2026-11-15T00:00:00Z", make_score(self.challenger), self.challenger_side
            ),
            champion=champion,
            champion_generation=0 if champion is None else 3,
            cross_validation=make_score(self.cross_validation, "train"),
            holdout_comparisons=comparisons,
            recipe_comparison=self.recipes,
            nested=CallScore("", Confusion(40, 1, 60, 1), dict(GOOD), {}),
            parity=self.parity,
        )

    @property
    def verdict(self) -> Verdict:
        return decide(self.policy, WDBC.labels, self.evaluation, self.smoke)


def _never_better(worse: Verdict, base: Verdict) -> bool:
    """Whether no check, nor the verdict, turned from fail to pass."""
    before = {check.name: check.passed for check in base.checks}
    checks = all(before[check.name] or not check.passed for check in worse.checks)
    return checks and (base.passed or not worse.passed) and (base.better or not worse.better)


@pytest.fixture(scope="session")
def never_better() -> Callable[[Verdict, Verdict], bool]:
    return _never_better


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    """A refresh that is as good as its champion."""
    return Evidence()
