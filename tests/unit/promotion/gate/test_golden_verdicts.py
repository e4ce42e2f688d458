"""Whole verdicts, with every rule, bound and note, against the ones in golden_verdicts.json.

After an intended change: UPDATE_GOLDEN=1 python -m pytest tests/unit/promotion/gate.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts.evidence import Interval, Parity, Separation, Separations, SliceScore
from bc_pipeline.artifacts.files import decode_document
from bc_pipeline.artifacts.verdict import Smoke, Verdict
from bc_pipeline.problems.policies import Floor, LeakPolicy
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.promotion.gate import decide

GOLDEN = Path(__file__).with_name("golden_verdicts.json")
NAN = math.nan
NO_SLICE = (SliceScore("small", 9, 7, 0.0, None),)
UNKNOWN_SLICES = (SliceScore("fine", 40, 8, 0.9, 1.0), SliceScore("unknown", 40, 9, None, None))
FLOORS = (
    Floor("f1", "holdout", 0.9),
    Floor("f1_negative", "holdout", 0.8),
    Floor("roc_auc", "cross_validation", 0.95),
    Floor("sensitivity", "cross_validation", 0.93),
    Floor("brier", "holdout", 0.06, "at_most"),
)


def judge(evidence: Any, *, looks_back: bool = False, **changes: Any) -> Verdict:
    """The verdict on evidence with fields of its evaluation exchanged."""
    evaluation = msgspec.structs.replace(evidence.evaluation, **changes)
    return decide(evidence.policy, WDBC.labels, evaluation, evidence.smoke, looks_back=looks_back)


def with_slices(evidence: Any, slices: tuple[SliceScore, ...]) -> Verdict:
    evaluation = evidence.evaluation
    challenger = msgspec.structs.replace(
        evaluation.challenger,
        holdout=msgspec.structs.replace(evaluation.challenger.holdout, slices=slices),
    )
    cross_validation = msgspec.structs.replace(evaluation.cross_validation, slices=slices)
    return judge(evidence, challenger=challenger, cross_validation=cross_validation)


def unknown_numbers(evidence: Any) -> Verdict:
    """Every number that the gate reads is missing or not finite."""
    worse = evidence.but_metrics("champion", f1=None, sensitivity=NAN, brier=0.02)
    worse = worse.but_metrics("challenger", f1=NAN, sensitivity=0.97, brier=None)
    worse = worse.but_metrics("cross_validation", calibration_error=NAN, sensitivity=None)
    worse = worse.but(
        policy=replace(worse.policy, floors=FLOORS),
        parity=Parity(3, NAN, 0),
        smoke=Smoke(True, 16, NAN, NAN),
    )
    return judge(worse, holdout_comparisons=worse.evaluation.holdout_comparisons[1:])


def leaking(evidence: Any, *areas: float) -> Verdict:
    """Two features and the score of cross-validation in a batch, by a policy that judges them."""
    policy = replace(evidence.policy, leak=LeakPolicy(brier=0.05, deviation=0.02))
    known = Separation(rows=500, positive_rows=200, areas=(0.55, 0.97))
    batch = Separation(rows=57, positive_rows=21, areas=areas, batches=("b1", "b2"))
    separations = Separations(features=("noise", "size"), reference=known, parts=(batch,))
    changed = evidence.but(policy=policy)
    return judge(changed, separations=separations if areas else None)


def switched(evidence: Any, champion: float | None, challenger: float | None, **fields: Any) -> Any:
    switch = evidence.switch()
    fields = {"champion": champion, "challenger": challenger} | fields
    return switch.but(recipes=msgspec.structs.replace(switch.recipes, **fields))


SCENARIOS: dict[str, Callable[[Any], Verdict]] = {
    "first": lambda evidence: evidence.but(champion=None).verdict,
    "refresh": lambda evidence: evidence.verdict,
    "every floor": lambda evidence: (
        evidence.but(policy=replace(evidence.policy, floors=FLOORS))
        .but_metrics("challenger", f1_negative=0.81)
        .verdict
    ),
    "better refresh": lambda evidence: evidence.but_metrics("challenger", brier=0.017).verdict,
    "worse refresh": lambda evidence: (
        evidence.but_metrics("challenger", f1=0.85, sensitivity=0.9, brier=0.09).verdict
    ),
    "switch": lambda evidence: evidence.switch(gain=0.01, p_value=0.0412).verdict,
    "switch with an interval": lambda evidence: (
        switched(evidence, 0.03, 0.02, interval=Interval(0.001, NAN, 0.9)).verdict
    ),
    "switch by an unknown gain": lambda evidence: evidence.switch(None, None).verdict,
    "switch by a gain that is no number": lambda evidence: (
        switched(evidence, 0.03, 0.02, gain=NAN).verdict
    ),
    "switch by an infinite gain": lambda evidence: (
        switched(evidence, 0.03, 0.02, gain=math.inf).verdict
    ),
    "switch by a p value that is no number": lambda evidence: (
        switched(evidence, 0.03, 0.02, p_value=-math.inf).verdict
    ),
    "switch from an unknown champion": lambda evidence: switched(evidence, NAN, 0.02).verdict,
    "switch to an unknown challenger": lambda evidence: switched(evidence, 0.03, None).verdict,
    "switch that was not measured": lambda evidence: evidence.switch().but(recipes=None).verdict,
    "champion itself": lambda evidence: evidence.but(challenger_side={"version": "v1"}).verdict,
    "no slice is judged": lambda evidence: with_slices(evidence, NO_SLICE),
    "a slice is unknown": lambda evidence: with_slices(evidence, UNKNOWN_SLICES),
    "nothing was compared": lambda evidence: judge(evidence, holdout_comparisons=()),
    "unknown numbers": unknown_numbers,
    "a feature tells the label": lambda evidence: leaking(
        evidence.but_metrics("cross_validation", brier=0.001), 1.0, 0.98
    ),
    "no feature tells the label": lambda evidence: leaking(evidence, 0.6, 0.98),
    "leaks cannot be judged": lambda evidence: leaking(
        evidence.but_metrics("cross_validation", brier=None)
    ),
    "backfill of older data": lambda evidence: judge(
        evidence.but(challenger_side={"as_of": "2026-10-01T00:00:00Z"}), looks_back=True
    ),
    "everything else fails": lambda evidence: (
        evidence.but(
            challenger_side={"schema_fingerprint": "other", "as_of": "2026-10-01T00:00:00Z"},
            parity=Parity(0, 0.0, 0),
            smoke=Smoke(False, 0, None, None, "the service ended with 1"),
            policy=replace(evidence.policy, advisory=frozenset({"data_age", "smoke_latency"})),
        ).verdict
    ),
}


def golden() -> dict[str, list[Any]]:
    return json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}


def lines_of(verdict: Verdict, usual: Verdict) -> list[Any]:
    """The verdict's fields, and each check; only the name of one that is as usual."""
    content = json.loads(msgspec.json.encode(verdict))
    checks = content.pop("checks")
    # The policy's digest is tested by itself.
    del content["policy_digest"]
    known = json.loads(msgspec.json.encode(usual.checks)) if verdict is not usual else []
    return [content, *(check["name"] if check in known else check for check in checks)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_verdict_has_every_rule_number_and_note(evidence: Any, name: str) -> None:
    usual = evidence.verdict
    verdict = usual if name == "refresh" else SCENARIOS[name](evidence)
    lines = lines_of(verdict, usual)
    if os.environ.get("UPDATE_GOLDEN"):
        texts = {
            known: "[\n  " + ",\n  ".join(json.dumps(line) for line in lines) + "\n ]"
            for known, lines in (golden() | {name: lines}).items()
        }
        rows = ",\n ".join(f"{json.dumps(known)}: {text}" for known, text in texts.items())
        GOLDEN.write_text(f"{{\n {rows}\n}}\n")
    assert lines == golden()[name]
    # A number that the file cannot hold, such as NaN, is null in it, and nothing else changes.
    written = msgspec.json.encode(verdict)
    assert msgspec.json.encode(decode_document(written, Verdict, GOLDEN)) == written


def test_each_golden_verdict_has_a_scenario() -> None:
    assert golden().keys() == SCENARIOS.keys()
