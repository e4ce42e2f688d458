from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from bc_pipeline.artifacts.coefficients import Coefficients
from bc_pipeline.artifacts.evidence import AnchorComparison
from bc_pipeline.artifacts.importance import FeatureImportance, Importance
from bc_pipeline.evaluation.metrics import METRICS
from bc_pipeline.evaluation.model_card import model_card

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
    for heading in (
        *("Intended use", "Study", "Data", "Recipe", "Results", "Predictive values"),
        *("Calibration", "Slices", "Poor inputs", "Limits"),
    ):
        assert f"\n## {heading}" in text
    assert "`d1`" in text
    assert "2026-11-15T00:00:00Z" in text
    assert f"{len(case.train.keys)} rows" in text
    assert "Threshold 0.4" in text
    assert "worst_texture" in text


def test_every_metric_has_its_interval_but_the_calibration_error(card, case) -> None:
    text = card()
    holdout = case.evaluate(case.model("v2")).challenger.holdout
    for metric in METRICS:
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{metric}` |")]
        assert f"{holdout.metrics[metric]:.4f}" in line
        if metric == "calibration_error":
            assert line.endswith("| - |")
        else:
            interval = holdout.intervals[metric]
            assert f"{interval.low:.4f} to {interval.high:.4f}" in line


def test_nested_cross_validation_comes_first(card, case) -> None:
    text = card()
    nested = case.evaluate(case.model("v2")).nested
    headline = text.split("\n\n")[2]
    assert "nested cross-validation" in headline
    for metric in ("sensitivity", "specificity", "f1"):
        assert f"{nested.metrics[metric]:.4f}" in headline
    assert text.index("Nested cross-validation") < text.index("Holdout |")


def test_an_easy_holdout_is_called_so(card, case) -> None:
    assert "easy" not in card()
    order = np.argsort(case.holdout.positive - case.predict(case.holdout.values))
    sure = np.abs(case.holdout.positive - case.predict(case.holdout.values)) < 0.02
    assert order.size > sure.sum() > 20
    easy = replace(
        case.holdout,
        keys=tuple(np.array(case.holdout.keys)[sure].tolist()),
        values=case.holdout.values[sure],
        positive=case.holdout.positive[sure],
    )
    assert "This holdout is an easy one" in card(holdout=easy)


def test_predictive_values_are_stated_for_shares_of_positive_samples(card, case) -> None:
    nested = case.evaluate(case.model("v2")).nested.metrics
    sensitivity, specificity = nested["sensitivity"], nested["specificity"]
    section = card().split("## Predictive values")[1].split("##")[0]
    for share in case.problem.study.prevalences:
        hits, alarms = sensitivity * share, (1 - specificity) * (1 - share)
        assert f"| {share:g} | {hits / (hits + alarms):.3f} |" in section


def test_the_gain_of_calling_every_row_is_shown_beside_net_benefit(card, case) -> None:
    share = case.holdout.positive.mean()
    lines = card().splitlines()
    (line,) = [each for each in lines if "net_benefit` of calling every row" in each]
    assert f"{share - (1 - share) / 10:.4f}" in line


def test_coefficients_are_listed_where_there_are_any(case, releases) -> None:
    evaluation = case.evaluate(case.model("v2"))
    ones = (1.0,) * 30
    model = Coefficients(mean=ones, scale=ones, weights=(-2.5, *ones[1:]), intercept=0.25)
    text = model_card(case.problem, releases.draft("v2"), evaluation, IMPORTANCE, model)
    assert "| `mean_radius` | 1 | 1 | -2.5000 |" in text
    assert "+0.2500" in text


def test_the_champion_is_in_it_only_where_there_is_one(card, case) -> None:
    assert "champion" not in card().casefold()
    text = card(case.model("v1", title="Old model"))
    assert "## Against the champion `v1` (Old model)" in text
    assert "| `brier`, holdout |" in text
    assert "recipes in cross-validation" not in text
    losses = {name: np.linspace(0.02, 0.03, 50).reshape(10, 5) for name in ("logistic-1", "svm")}
    switch = card(case.model("v1", recipe="svm"), losses=losses)
    assert "| `brier`, recipes in cross-validation |" in switch


def test_the_anchor_is_named_and_compared(case, releases) -> None:
    evaluation = case.evaluate(case.model("v2"), case.model("v1"))
    compared = tuple(evaluation.holdout_comparisons)
    (brier,) = [entry for entry in compared if entry.metric == "brier"]
    anchor = AnchorComparison(
        version="v0", holdout=compared, cross_validation=(brier,), shared_rows=300
    )

    def text(anchor: AnchorComparison | None) -> str:
        judged = structs.replace(evaluation, anchor=anchor)
        return model_card(case.problem, releases.draft("v2"), judged, IMPORTANCE)

    assert "anchor" not in text(None)
    section = text(anchor).split("## Against the anchor `v0`")[1].split("##")[0]
    assert "300 train rows" in section
    assert "| Metric | Anchor | This version | Gain |" in section
    assert f"| `brier`, holdout | {brier.champion:.4f} | {brier.challenger:.4f} |" in section
    assert "| `brier`, cross-validation |" in section
    section = text(AnchorComparison(version="v0", note="Its files are gone.")).split("`v0`")[1]
    assert section.startswith("\n\nNot compared: Its files are gone.")


def test_it_holds_no_verdict(card, case) -> None:
    text = card(case.model("v1")).casefold()
    assert "passed" not in text
    assert "rejected" not in text


def test_undefined_values_are_dashes(card, case) -> None:
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


def test_all_lines_of_a_table_have_as_many_cells_as_its_header(card, case) -> None:
    for block in card(case.model("v1")).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_without_slices_it_says_so(case, releases) -> None:
    problem = replace(case.problem, slices=())
    evaluation = replace(case, problem=problem).evaluate(case.model("v1"))
    text = model_card(problem, releases.draft("v1"), evaluation, IMPORTANCE)
    assert "The problem names no slices." in text
