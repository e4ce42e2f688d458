"""What must hold of the gate whatever the numbers are."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.artifacts.evidence import Parity, SliceScore
from bc_pipeline.artifacts.verdict import Smoke, Verdict
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.promotion.gate import decide

# Numbers around the bounds, so that checks both pass and fail.
SHARE = st.sampled_from([0.0, 0.5, 0.9, 0.92, 0.93, 0.95, 0.96, 0.97, 0.99, 1.0])
LOSS = st.sampled_from([0.0, 0.01, 0.019, 0.02, 0.021, 0.023, 0.026, 0.03, 0.06, 0.2])
METRICS = st.fixed_dictionaries(
    {"sensitivity": SHARE, "f1": SHARE, "brier": LOSS, "calibration_error": LOSS}
)
STEP = st.sampled_from([0.0, 0.0005, 0.01, 0.03, 0.1, 1.0])
STEPS = st.fixed_dictionaries(
    {"sensitivity": STEP, "f1": STEP, "brier": STEP, "calibration_error": STEP}
)
WIDTHS = st.fixed_dictionaries(
    {name: st.sampled_from([0.0, 0.0005, 0.01, 0.05]) for name in ("sensitivity", "f1", "brier")}
)
LOWER_IS_BETTER = frozenset({"brier", "calibration_error"})


def worsened(metrics: dict[str, float], steps: dict[str, float]) -> dict[str, float]:
    return {
        name: value + steps[name] if name in LOWER_IS_BETTER else value - steps[name]
        for name, value in metrics.items()
    }


@given(METRICS, METRICS, METRICS, WIDTHS, STEPS, STEPS)
def test_a_worse_metric_never_helps(
    evidence, never_better, champion, challenger, train, widths, down, back
):
    base = evidence.but(
        champion=champion, challenger=challenger, cross_validation=train, widths=widths
    )
    worse = base.but(challenger=worsened(challenger, down), cross_validation=worsened(train, back))
    assert never_better(worse.verdict, base.verdict)


@given(METRICS, METRICS, WIDTHS, st.tuples(LOSS, LOSS), st.tuples(SHARE, SHARE))
def test_weaker_evidence_for_another_recipe_never_helps(
    evidence, never_better, champion, challenger, widths, gains, p_values
):
    base = evidence.but(champion=champion, challenger=challenger, widths=widths)
    strong = base.switch(gain=max(gains), p_value=1.0 - max(p_values))
    weak = base.switch(gain=min(gains) - 0.01, p_value=1.0 - min(p_values))
    assert never_better(weak.verdict, strong.verdict)
    assert never_better(base.switch().but(recipes=None).verdict, strong.verdict)


@given(
    st.lists(st.tuples(st.integers(0, 20), SHARE), min_size=1, max_size=4),
    STEP,
    st.tuples(st.floats(0, 1e-11), st.floats(0, 1e-11)),
    st.tuples(st.floats(0, 100), st.floats(0, 100)),
)
def test_a_worse_slice_export_or_service_never_helps(
    evidence, never_better, parts, step, parity, latency
):
    def with_all(lower: float, difference: float, milliseconds: float) -> Verdict:
        case = evidence.but(
            parity=Parity(10, difference, 0), smoke=Smoke(True, 5, difference, milliseconds)
        )
        slices = tuple(
            SliceScore(f"s{i}", rows, rows, share - lower, None)
            for i, (rows, share) in enumerate(parts)
        )
        changed = replace_at(case.evaluation, "challenger.holdout.slices", slices)
        return decide(evidence.policy, WDBC.labels, changed, case.smoke)

    better = with_all(0.0, min(parity), min(latency))
    assert never_better(with_all(step, max(parity), max(latency)), better)


@given(METRICS, METRICS, WIDTHS)
def test_an_identical_pair_is_never_better_and_passes_its_champion(
    evidence, metrics, train, widths
):
    verdict = evidence.but(
        champion=metrics, challenger=metrics, cross_validation=train, widths=widths
    ).verdict
    assert not verdict.better
    named = {check.name: check.passed for check in verdict.checks}
    assert named["f1_tie"]
    assert all(passed for name, passed in named.items() if name.startswith("no_harm"))


# Unknown numbers ------------------------------------------------------------------------


def replace_at(record: Any, path: str, value: Any) -> Any:
    """A record with the value at a dotted path exchanged; parts may be indices and keys."""
    head, _, rest = path.partition(".")
    if isinstance(record, dict):
        return record | {head: replace_at(record[head], rest, value) if rest else value}
    if isinstance(record, tuple):
        index = int(head)
        inner = replace_at(record[index], rest, value) if rest else value
        return (*record[:index], inner, *record[index + 1 :])
    inner = replace_at(getattr(record, head), rest, value) if rest else value
    return msgspec.structs.replace(record, **{head: inner})


NUMBERS = (
    "challenger.holdout.metrics.sensitivity",
    "challenger.holdout.metrics.f1",
    "challenger.holdout.metrics.brier",
    "challenger.holdout.threshold",
    "challenger.holdout.slices.1.sensitivity",
    "champion.holdout.metrics.f1",
    "cross_validation.metrics.sensitivity",
    "cross_validation.metrics.calibration_error",
    "cross_validation.slices.1.sensitivity",
    "cross_validation.threshold",
    *(
        f"holdout_comparisons.{index}.{part}"
        for index in range(3)
        for part in ("champion", "challenger", "gain", "interval.low", "interval.high", "interval")
    ),
    "recipe_comparison.champion",
    "recipe_comparison.challenger",
    "recipe_comparison.gain",
    "recipe_comparison.p_value",
    "parity.worst_difference",
)
UNKNOWN = (math.nan, math.inf, -math.inf, None)


@pytest.mark.parametrize("path", NUMBERS)
def test_an_unknown_number_fails(evidence, path) -> None:
    good = evidence.switch().but_metrics("challenger", brier=0.015)
    assert good.verdict.passed
    for value in UNKNOWN:
        if path.endswith("interval") and value is not None:
            continue
        broken = replace_at(good.evaluation, path, value)
        verdict = decide(good.policy, WDBC.labels, broken, good.smoke)
        assert not verdict.passed, (path, value)
        assert not verdict.better
        assert verdict.reasons


@pytest.mark.parametrize("name", ["worst_difference", "median_ms"])
@pytest.mark.parametrize("value", UNKNOWN)
def test_an_unknown_number_of_the_service_fails(evidence, name, value) -> None:
    broken = msgspec.structs.replace(evidence.smoke, **{name: value})
    assert not evidence.but(smoke=broken).verdict.passed
