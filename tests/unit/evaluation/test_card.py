from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bc_pipeline.evaluation.card import model_card
from bc_pipeline.evaluation.importance import FeatureImportance, Importance
from bc_pipeline.evaluation.metrics import METRICS

IMPORTANCE = Importance(
    rows=110,
    shuffles=20,
    seed=1,
    brier=0.02,
    features=(FeatureImportance("worst_texture", 0.0123, 0.002),),
)


@pytest.fixture
def card(case, releases):
    def make(champion=None, **changes) -> str:
        evaluation = case.evaluate(case.model("v2"), champion, **changes)
        return model_card(case.problem, releases.draft("v2"), evaluation, IMPORTANCE)

    return make


def test_the_card_says_what_a_person_must_know_first(card, case) -> None:
    text = card()
    assert text.startswith("# Breast cancer, Wisconsin Diagnostic: Logistic regression\n")
    assert "**It is not a medical device**" in text
    assert "research" in text
    for heading in ("Intended use", "Data", "Recipe", "Results", "Slices", "Limits"):
        assert f"\n## {heading}" in text
    assert "`d1`" in text
    assert "2026-11-15T00:00:00Z" in text
    assert f"{len(case.train.keys)} rows" in text
    assert "Threshold 0.4" in text
    assert "worst_texture" in text


def test_every_metric_stands_with_its_interval(card, case) -> None:
    text = card()
    holdout = case.evaluate(case.model("v2")).challenger.holdout
    for metric in METRICS:
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{metric}` |")]
        interval = holdout.intervals[metric]
        assert f"{holdout.metrics[metric]:.4f}" in line
        assert f"{interval.low:.4f} to {interval.high:.4f}" in line


def test_the_champion_stands_in_it_only_where_there_is_one(card, case) -> None:
    assert "champion" not in card().casefold()
    text = card(case.model("v1", title="Old model"))
    assert "## Against the champion `v1` (Old model)" in text
    assert "| `brier`, holdout |" in text
    assert "recipes in cross-validation" not in text
    losses = {name: np.linspace(0.02, 0.03, 50).reshape(10, 5) for name in ("logistic-1", "svm")}
    switch = card(case.model("v1", recipe="svm"), losses=losses)
    assert "| `brier`, recipes in cross-validation |" in switch


def test_it_holds_no_verdict(card, case) -> None:
    text = card(case.model("v1")).casefold()
    assert "passed" not in text
    assert "rejected" not in text


def test_what_is_undefined_is_a_dash(card, case) -> None:
    benign = case.holdout.positive == 0
    rows = replace(
        case.holdout,
        keys=tuple(np.array(case.holdout.keys)[benign].tolist()),
        values=case.holdout.values[benign],
        positive=case.holdout.positive[benign],
    )
    text = card(holdout=rows)
    assert "The holdout has no malignant row." in text
    (line,) = [line for line in text.splitlines() if line.startswith("| `sensitivity` |")]
    assert line.endswith("| - | - |")


def test_tables_are_whole(card, case) -> None:
    for block in card(case.model("v1")).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_without_slices_it_says_so(case, releases) -> None:
    problem = replace(case.problem, slices=())
    evaluation = replace(case, problem=problem).evaluate(case.model("v1"))
    text = model_card(problem, releases.draft("v1"), evaluation, IMPORTANCE)
    assert "The problem names no slices." in text
