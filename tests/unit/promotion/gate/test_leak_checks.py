"""A challenger that is too good, because a feature was made from the label, is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bc_pipeline.artifacts.evidence import Evaluation, Separation, Separations
from bc_pipeline.artifacts.verdict import Check
from bc_pipeline.data.class_separation import class_areas
from bc_pipeline.evaluation.separation import measure_separations
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import LeakPolicy
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.promotion.gate import decide
from bc_pipeline.promotion.leak_checks import plausible_brier, single_features

POLICY = LeakPolicy(brier=0.02, deviation=0.08)
REFERENCE = Separation(rows=500, positive_rows=200, areas=(0.55, 0.97))


def part(*areas: float, rows: int = 57, positive: int = 21, batches: Any = ("b1",)) -> Separation:
    return Separation(rows=rows, positive_rows=positive, areas=areas, batches=batches)


def separations(*parts: Separation) -> Separations:
    return Separations(features=("noise", "size"), reference=REFERENCE, parts=parts)


def measured(problem: Problem, values: np.ndarray, positive: np.ndarray, *sizes: int) -> Check:
    """The check of rows in the order in which they came, in batches of these sizes."""
    policy = problem.gate.leak
    assert policy is not None
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"batch-{number}" for number in range(len(sizes))]
    return single_features(
        policy, measure_separations(problem, policy, values, positive, names, numbers)
    )


@pytest.fixture
def rows(wdbc: Problem, reference: Any) -> tuple[np.ndarray, np.ndarray]:
    """The public rows in random order."""
    order = np.random.default_rng(7).permutation(len(reference[1]))
    return reference[0][order].copy(), wdbc.labels.to_positive(reference[1][order]).astype(bool)


def leak(problem: Problem, rows: Any, name: str, count: int) -> None:
    """Make a feature of the last rows from their label."""
    column = rows[0][-count:, problem.schema.names.index(name)]
    noise = np.random.default_rng(3).normal(0, 0.02, count)
    column[:] = np.median(column) + column.std() * (rows[1][-count:] + noise)


# Single features ------------------------------------------------------------------------


def test_the_area_of_a_feature_is_that_of_scikit_learn(rows: Any) -> None:
    values, positive = rows
    areas = class_areas(values, positive)
    for column, area in zip(values.T, areas, strict=True):
        expected = roc_auc_score(positive, column)
        assert area == pytest.approx(max(expected, 1 - expected))


def test_clean_rows_pass_in_one_batch_and_in_many(wdbc: Problem, rows: Any) -> None:
    for sizes in ((569,), (338, *[57] * 4, 3), (341, *[4] * 57)):
        assert measured(wdbc, *rows, *sizes).passed


@pytest.mark.parametrize(
    ("sizes", "where"),
    [
        ((569,), "(569 rows)."),
        ((512, 57), "(57 rows of batch batch-1)."),
        ((512, *[4] * 13, 5), "(28 rows of batches batch-1, batch-2, "),
    ],
)
def test_a_feature_that_tells_the_label_is_named(
    wdbc: Problem, rows: Any, sizes: Any, where: str
) -> None:
    leak(wdbc, rows, "symmetry_error", 569 if len(sizes) == 1 else 57)
    check = measured(wdbc, *rows, *sizes)
    assert not check.passed
    found = "symmetry_error alone tells the label: AUC 1.00, 0.56 in the reference "
    assert check.note.startswith(found + where)
    assert check.challenger == 1.0


def test_either_direction_is_a_leak(wdbc: Problem, rows: Any) -> None:
    values, positive = rows
    leak(wdbc, (values, ~positive), "symmetry_error", 57)
    assert "symmetry_error alone" in measured(wdbc, values, positive, 512, 57).note


def test_the_most_certain_part_of_each_feature_is_told() -> None:
    check = single_features(
        POLICY, separations(part(0.95, 0.97), part(1.0, 0.97, batches=()), part(0.97, 0.97))
    )
    assert check.note == ("noise alone tells the label: AUC 1.00, 0.55 in the reference (57 rows).")


def test_a_gain_that_is_certain_but_small_is_no_leak() -> None:
    many = part(0.69, 0.975, rows=100_000, positive=40_000)
    assert single_features(POLICY, separations(many)).passed
    assert not single_features(replace(POLICY, margin=0.1), separations(many)).passed


def test_a_gain_that_is_large_but_uncertain_is_no_leak() -> None:
    check = single_features(POLICY, separations(part(0.8, 1.0, rows=25, positive=10)))
    assert check.passed
    assert check.bound == pytest.approx(0.91, abs=1e-4)
    assert check.note.endswith("of batch b1; in so few rows chance may do that, up to 0.910.")


def test_few_rows_may_be_separated_wholly_by_chance() -> None:
    known = separations(part(1.0, 0.97, rows=25, positive=10))
    reference = msgspec.structs.replace(REFERENCE, areas=(0.88, 0.97))
    check = single_features(POLICY, msgspec.structs.replace(known, reference=reference))
    assert (check.passed, check.bound) == (True, None)
    assert check.note.endswith("of batch b1; chance may separate so few rows wholly.")


@pytest.mark.parametrize(("rows", "positive"), [(57, 21), (500, 190), (100_000, 40_000)])
def test_the_bound_that_is_shown_is_the_one_that_applied(rows: int, positive: int) -> None:
    def judged(area: float) -> Check:
        return single_features(POLICY, separations(part(area, 0.97, rows=rows, positive=positive)))

    bound = judged(0.6).bound
    assert bound is not None
    below, above = judged(bound - 1e-6), judged(bound + 1e-6)
    assert (below.passed, above.passed) == (True, False)
    assert below.bound == above.bound == bound
    assert bound > 0.699


def test_a_value_over_the_margin_that_passes_says_why() -> None:
    check = single_features(POLICY, separations(part(0.75, 0.97)))
    assert check.passed
    assert check.note.endswith("in so few rows chance may do that, up to 0.819.")


def test_more_parts_need_more_evidence() -> None:
    found = part(0.87, 0.97)
    assert not single_features(POLICY, separations(found)).passed
    clean = [part(0.55, 0.97)] * 40
    assert single_features(POLICY, separations(found, *clean)).passed


@pytest.mark.parametrize("area", [math.nan, math.inf])
def test_an_unknown_area_fails(area: float) -> None:
    check = single_features(POLICY, separations(part(area, 0.97)))
    assert not check.passed
    assert "Could not be computed" in check.note


def test_a_feature_that_separates_the_reference_fully_cannot_be_judged() -> None:
    known = Separations(
        features=("f",), reference=msgspec.structs.replace(REFERENCE, areas=(1.0,)),
        parts=(part(1.0),),
    )  # fmt: skip
    assert single_features(POLICY, known).passed


def test_what_was_not_measured_is_not_judged_and_says_so() -> None:
    for missing in (None, separations()):
        check = single_features(POLICY, missing)
        assert check.passed
        assert check.note.startswith("Not judged: ")


def test_batches_with_few_rows_of_a_class_are_not_measured(wdbc: Problem, rows: Any) -> None:
    values, positive = rows
    order = np.argsort(positive, kind="stable")
    policy = wdbc.gate.leak
    assert policy is not None
    numbers = np.repeat([0, 1, 2], [300, 200, 69])
    found = measure_separations(
        wdbc, policy, values[order], positive[order], ["a", "b", "c"], numbers
    )
    # The first 357 are benign, so only the second batch has both classes.
    assert [each.batches for each in found.parts] == [(), ("b",)]


# Brier score ----------------------------------------------------------------------------


def brier_check(evidence: Any, brier: float | None, rows: int = 459) -> Check:
    score = evidence.but_metrics("cross_validation", brier=brier).evaluation.cross_validation
    keys = tuple(str(number) for number in range(rows))
    return plausible_brier(POLICY, msgspec.structs.replace(score, keys=keys))


def test_a_brier_score_that_no_recipe_reaches_fails(evidence: Any) -> None:
    check = brier_check(evidence, 0.001)
    assert not check.passed
    assert check.bound == pytest.approx(0.01 - 3.0902 * 0.04 / math.sqrt(459), abs=1e-5)
    assert "made from the label" in check.note
    for honest in (0.02, 0.0176, 0.0118):
        assert brier_check(evidence, honest).passed


def test_few_rows_may_have_any_brier_score(evidence: Any) -> None:
    for rows in (0, 100):
        check = brier_check(evidence, 0.0, rows)
        assert check.passed
        assert check.note == f"Not judged: {rows} rows may have any Brier score by chance."


@pytest.mark.parametrize("brier", [None, math.nan])
def test_an_unknown_brier_score_fails(evidence: Any, brier: float | None) -> None:
    assert not brier_check(evidence, brier).passed


# Verdicts -------------------------------------------------------------------------------


def test_a_leak_is_refused_whatever_else_it_wins(evidence: Any) -> None:
    policy = replace(evidence.policy, leak=POLICY)
    leaky = msgspec.structs.replace(
        evidence.but_metrics("challenger", brier=0.01, f1=0.995).evaluation,
        separations=separations(part(1.0, 0.97)),
    )
    assert decide(evidence.policy, WDBC.labels, leaky, evidence.smoke).better
    verdict = decide(policy, WDBC.labels, leaky, evidence.smoke)
    assert (verdict.passed, verdict.better) == (False, False)
    (reason,) = verdict.reasons
    assert reason.startswith("not met: no feature alone separates the classes much better")


def test_an_evaluation_of_an_earlier_release_is_judged_by_the_rest(evidence: Any) -> None:
    stored = msgspec.to_builtins(evidence.evaluation)
    del stored["separations"]
    verdict = decide(
        replace(evidence.policy, leak=POLICY),
        WDBC.labels,
        msgspec.convert(stored, Evaluation),
        evidence.smoke,
    )
    assert verdict.passed
    (check,) = [each for each in verdict.checks if each.name == "single_feature_auc"]
    assert check.note.startswith("Not judged: ")
