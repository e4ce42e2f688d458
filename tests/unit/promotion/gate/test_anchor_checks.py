from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts.evidence import AnchorComparison
from bc_pipeline.artifacts.verdict import Check, Verdict
from bc_pipeline.problems.policies import Margin
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.promotion.gate import decide
from tests.unit.promotion.gate.conftest import make_comparison

MARGINS = (
    Margin("brier", 0.01, "lower", negligible=0.004),
    Margin("brier", 0.002, "lower", negligible=0.001, rows="cross_validation"),
)
COMPARED = AnchorComparison(
    version="v0",
    holdout=(make_comparison("brier", 0.02, 0.02, 0.002),),
    cross_validation=(make_comparison("brier", 0.02, 0.02, 0.001),),
    shared_rows=400,
)


def judge(evidence: Any, anchor: AnchorComparison | None) -> Verdict:
    policy = replace(evidence.policy, anchor_margins=MARGINS)
    evaluation = msgspec.structs.replace(evidence.evaluation, anchor=anchor)
    return decide(policy, WDBC.labels, evaluation, evidence.smoke)


def anchor_checks(verdict: Verdict) -> dict[str, Check]:
    return {check.name: check for check in verdict.checks if check.name.startswith("anchor")}


def test_a_challenger_that_lost_nothing_passes(evidence: Any) -> None:
    verdict = judge(evidence, COMPARED)
    assert verdict.passed
    checks = anchor_checks(verdict)
    assert list(checks) == ["anchor_holdout_brier", "anchor_cross_validation_brier"]
    assert "400 train rows" in checks["anchor_cross_validation_brier"].note


@pytest.mark.parametrize(
    ("rows", "anchor", "width", "name"),
    [
        # More than the margin, and within it but surely more than is negligible.
        ("holdout", 0.0095, 0.02, "anchor_holdout_brier"),
        ("holdout", 0.0140, 0.001, "anchor_holdout_brier"),
        ("cross_validation", 0.0175, 0.02, "anchor_cross_validation_brier"),
        ("cross_validation", 0.0185, 0.0002, "anchor_cross_validation_brier"),
    ],
)
def test_what_was_lost_since_the_anchor_is_bounded(
    evidence: Any, rows: str, anchor: float, width: float, name: str
) -> None:
    lost = (make_comparison("brier", anchor, 0.02, width),)
    verdict = judge(evidence, msgspec.structs.replace(COMPARED, **{rows: lost}))
    assert [check for check in verdict.checks if not check.passed] == [anchor_checks(verdict)[name]]
    assert not verdict.passed


@pytest.mark.parametrize("rows", ["holdout", "cross_validation"])
def test_what_could_not_be_compared_fails(evidence: Any, rows: str) -> None:
    assert not judge(evidence, msgspec.structs.replace(COMPARED, **{rows: ()})).passed
    unknown = (make_comparison("brier", None, 0.02),)
    assert not judge(evidence, msgspec.structs.replace(COMPARED, **{rows: unknown})).passed


@pytest.mark.parametrize("required", [True, False])
def test_an_anchor_that_is_gone_fails_where_a_person_set_it(evidence: Any, required: bool) -> None:
    gone = AnchorComparison(version="v0", note="There is no version v0.", required=required)
    verdict = judge(evidence, gone)
    (check,) = anchor_checks(verdict).values()
    assert check.passed is verdict.passed is not required
    assert "There is no version v0." in check.note
    assert "bc-pipeline anchor set" in check.note


def test_without_an_anchor_there_is_no_check_of_it(evidence: Any) -> None:
    assert anchor_checks(judge(evidence, None)) == {}
