from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts.evidence import (
    Confusion,
    Interval,
    Parity,
    SequentialEvidence,
    SliceScore,
)
from bc_pipeline.artifacts.files import decode_document, encode_document
from bc_pipeline.artifacts.findings import finding
from bc_pipeline.artifacts.verdict import Check, Smoke, Verdict
from bc_pipeline.errors import EvidenceMismatch
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import Floor, GatePolicy, LeakPolicy, Margin, Rows
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.promotion.gate import decide


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def check_of(verdict: Verdict, name: str) -> Check:
    (found,) = [check for check in verdict.checks if check.name == name]
    return found


def put(record: Any, path: str, value: Any) -> Any:
    """A record with the field at a dotted path exchanged."""
    name, _, rest = path.partition(".")
    if rest:
        value = put(getattr(record, name), rest, value)
    return msgspec.structs.replace(record, **{name: value})


# Kinds ----------------------------------------------------------------------------------


def test_the_first_model_needs_no_champion(evidence) -> None:
    verdict = evidence.but(champion=None).verdict
    assert (verdict.kind, verdict.passed, verdict.better) == ("first", True, False)
    assert (verdict.champion, verdict.champion_generation) == (None, 0)
    names = {check.name for check in verdict.checks}
    assert not names & {"f1_tie", "no_harm_brier", "recipe_gain", "same_schema", "data_age"}
    assert {
        "holdout_f1",
        "cross_validation_calibration_error",
        "holdout_worst_slice",
        "parity_difference",
        "smoke_answers",
    } <= names


def test_a_refresh_that_is_as_good_passes_but_is_not_better(evidence) -> None:
    verdict = evidence.verdict
    assert (verdict.kind, verdict.passed, verdict.better) == ("refresh", True, False)
    assert verdict.reasons == ()
    assert (verdict.challenger, verdict.champion, verdict.champion_generation) == ("v2", "v1", 3)
    assert verdict.policy_digest == evidence.policy.digest
    assert verdict.rows_digest == evidence.evaluation.challenger.holdout.rows_digest


def test_a_refresh_is_better_where_the_interval_of_its_gain_says_so(evidence) -> None:
    assert evidence.but_metrics("challenger", brier=0.017).verdict.better
    assert evidence.but_metrics("challenger", f1=0.995).verdict.better
    # Sensitivity alone can be had by a lower threshold.
    assert (
        not evidence.but_metrics("challenger", sensitivity=1.0)
        .but(widths={"sensitivity": 0.001, "brier": 0.01})
        .verdict.better
    )


def test_a_rejected_challenger_is_never_better(evidence) -> None:
    good = evidence.but_metrics("challenger", brier=0.015)
    assert good.verdict.better
    verdict = good.but(parity=Parity(100, 1e-6, 0)).verdict
    assert (verdict.passed, verdict.better) == (False, False)


def test_a_switch_needs_a_significant_gain(evidence) -> None:
    verdict = evidence.switch(gain=0.01, p_value=0.049).verdict
    assert (verdict.kind, verdict.passed, verdict.better) == ("switch", True, True)
    for weak in (
        evidence.switch(gain=0.01, p_value=0.05),
        evidence.switch(gain=0.0, p_value=0.01),
        evidence.switch(gain=-0.01, p_value=0.01),
        evidence.switch(gain=None, p_value=None),
    ):
        verdict = weak.verdict
        assert (verdict.passed, verdict.better) == (False, False)
        assert failed(verdict) == {"recipe_gain"}


def test_a_switch_without_measurement_says_what_to_do(evidence) -> None:
    verdict = evidence.switch().but(recipes=None).verdict
    assert failed(verdict) == {"recipe_gain"}
    assert "cross-validate logistic-1" in check_of(verdict, "recipe_gain").note


def test_a_tie_says_what_gain_would_have_been_found(evidence) -> None:
    tie = evidence.switch(gain=0.002, p_value=0.13)
    measured = msgspec.structs.replace(tie.recipes, standard_error=0.002)
    note = check_of(tie.but(recipes=measured).verdict, "recipe_gain").note
    # 2.4865 standard errors.
    assert note == (
        "p = 0.1300. With these rows a true gain of 0.0050 is found with a probability of 80%."
    )
    # Evaluations of release 0.1 have no standard error.
    assert check_of(tie.verdict, "recipe_gain").note == "p = 0.1300."
    found = msgspec.structs.replace(tie.recipes, gain=0.01, p_value=0.01, standard_error=0.002)
    assert check_of(tie.but(recipes=found).verdict, "recipe_gain").note == "p = 0.0100."


def test_new_rows_can_show_what_cross_validation_does_not(evidence) -> None:
    policy = replace(evidence.policy, sequential_alpha=0.025)
    tie = evidence.switch(gain=0.002, p_value=0.13).but(policy=policy).evaluation
    bound = math.log(3 / 0.025)
    found = SequentialEvidence(
        rows=300, champion=0.03, challenger=0.02, log_e=bound + 0.01, recipes=3
    )

    def verdict(sequential: SequentialEvidence | None, policy: GatePolicy = policy) -> Verdict:
        changed = msgspec.structs.replace(tie, sequential=sequential)
        return decide(policy, WDBC.labels, changed, evidence.smoke)

    assert verdict(found).passed
    for weak in (
        None,
        msgspec.structs.replace(found, log_e=bound - 0.01),
        msgspec.structs.replace(found, log_e=math.nan),
        # The more recipes are compared, the more each has to show.
        msgspec.structs.replace(found, recipes=4),
    ):
        assert failed(verdict(weak)) == {"recipe_gain"}
    assert failed(verdict(found, replace(policy, sequential_alpha=0.0))) == {"recipe_gain"}
    # The holdout can veto it all the same.
    bad = evidence.switch(gain=0.002, p_value=0.13).but(policy=policy)
    worse = msgspec.structs.replace(
        bad.but_metrics("challenger", f1=0.90).evaluation, sequential=found
    )
    assert "f1_tie" in failed(decide(policy, WDBC.labels, worse, evidence.smoke))


def test_a_tie_says_how_many_more_rows_the_new_ones_need(evidence) -> None:
    policy = replace(evidence.policy, sequential_alpha=0.025)
    tie = evidence.switch(gain=0.002, p_value=0.13).but(policy=policy).evaluation

    def note(**changes: Any) -> str:
        # A tenth of the way to log(3 / .025).
        some = {"rows": 50, "champion": 0.03, "challenger": 0.028, "log_e": 0.47875, "recipes": 3}
        changed = msgspec.structs.replace(tie, sequential=SequentialEvidence(**some | changes))
        return check_of(decide(policy, WDBC.labels, changed, evidence.smoke), "recipe_gain").note

    assert note() == (
        "p = 0.1300. New rows: 50, gain +0.0020, e-value 1.61 of 120; at this rate 450 more rows "
        "are needed."
    )
    assert note(log_e=4.75).endswith("at this rate 1 more row is needed.")
    assert note(log_e=-0.1).endswith("e-value 0.905 of 120; they show no gain so far.")
    assert note(rows=0, champion=None, challenger=None, log_e=0.0).endswith(
        "No new rows are counted yet."
    )


def test_the_holdout_can_veto_a_switch(evidence) -> None:
    verdict = evidence.switch().but_metrics("challenger", f1=0.93).verdict
    assert (verdict.kind, verdict.passed) == ("switch", False)
    assert "f1_tie" in failed(verdict)


def test_the_champion_itself_has_nothing_to_pass(evidence) -> None:
    verdict = (
        evidence.but(challenger_side={"version": "v1"}, smoke=Smoke(False, 0, None, None, "down"))
        .but_metrics("challenger", brier=0.0)
        .verdict
    )
    assert (verdict.kind, verdict.passed, verdict.better) == ("refresh", True, False)
    assert [check.name for check in verdict.checks] == ["already_live"]


# Evidence -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("champion.holdout.rows_digest", "other"),
        ("challenger.holdout.keys", tuple(f"other{i}" for i in range(10))),
        ("challenger.holdout.positive", (0, 1) * 5),
    ],
)
def test_other_rows_are_an_error_and_no_verdict(evidence, path, value) -> None:
    with pytest.raises(EvidenceMismatch, match="v1 and v2"):
        decide(evidence.policy, WDBC.labels, put(evidence.evaluation, path, value), evidence.smoke)


def test_a_row_on_both_sides_blocks(evidence) -> None:
    leaked = put(evidence.evaluation, "cross_validation.keys", ("holdout3", "train1"))
    verdict = decide(evidence.policy, WDBC.labels, leaked, evidence.smoke)
    assert failed(verdict) == {"rows_apart"}
    assert check_of(verdict, "rows_apart").challenger == 1.0


def test_another_threshold_on_the_holdout_blocks(evidence) -> None:
    moved = put(evidence.evaluation, "challenger.holdout.threshold", 0.39)
    assert failed(decide(evidence.policy, WDBC.labels, moved, evidence.smoke)) == {
        "frozen_threshold"
    }


# Single checks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "metrics", "names"),
    [
        ("cross_validation", {"sensitivity": 0.9299}, {"cross_validation_sensitivity"}),
        ("cross_validation", {"calibration_error": 0.061}, {"cross_validation_calibration_error"}),
        ("challenger", {"f1": 0.934}, {"f1_tie"}),
        ("challenger", {"f1": 0.89}, {"f1_tie", "holdout_f1", "no_harm_f1"}),
        ("challenger", {"sensitivity": 0.919}, {"no_harm_sensitivity"}),
        ("challenger", {"brier": 0.0261}, {"no_harm_brier"}),
    ],
)
def test_each_bound_holds(evidence, part, metrics, names) -> None:
    verdict = evidence.but_metrics(part, **metrics).verdict
    assert not verdict.passed
    assert failed(verdict) == names
    assert set(verdict.reasons) == {finding(check_of(verdict, name)) for name in names}


def test_bounds_include_their_end(evidence) -> None:
    verdict = (
        evidence.but_metrics("cross_validation", sensitivity=0.93, calibration_error=0.06)
        .but_metrics("champion", f1=0.925, sensitivity=0.9, brier=0.06)
        .but_metrics("challenger", f1=0.9, sensitivity=0.9, brier=0.06)
        .verdict
    )
    assert verdict.passed


def test_a_small_loss_that_is_sure_is_harm_but_a_negligible_one_is_not(evidence) -> None:
    sure = {"f1": 0.004, "brier": 0.0001}
    small = evidence.but_metrics("challenger", f1=0.955).but(widths=sure)
    assert failed(small.verdict) == {"no_harm_f1"}
    assert evidence.but_metrics("challenger", brier=0.0209).but(widths=sure).verdict.passed
    harm = evidence.but_metrics("challenger", brier=0.0213).but(widths=sure)
    assert failed(harm.verdict) == {"no_harm_brier"}


def test_a_margin_that_was_not_measured_blocks(evidence) -> None:
    bare = put(evidence.evaluation, "holdout_comparisons", ())
    verdict = decide(evidence.policy, WDBC.labels, bare, evidence.smoke)
    assert failed(verdict) == {"no_harm_sensitivity", "no_harm_f1", "no_harm_brier"}
    assert "evaluate again" in check_of(verdict, "no_harm_f1").note


def test_a_floor_on_a_metric_that_was_not_measured_blocks(evidence) -> None:
    policy = replace(evidence.policy, floors=(Floor("kappa", "holdout", 0.5),))
    verdict = evidence.but(policy=policy).verdict
    assert failed(verdict) == {"holdout_kappa"}
    assert "unknown value fails" in check_of(verdict, "holdout_kappa").note


def proven(evidence: Any, hits: int, missed: int, rows: Rows = "holdout") -> Check:
    """The check of a lower bound of .75 on a sensitivity with these counts."""
    path = {"holdout": "challenger.holdout", "nested": "nested"}[rows]
    floors = (Floor("sensitivity", rows, 0.5, proven=0.75),)
    policy = replace(evidence.policy, floors=floors)
    counts = put(evidence.evaluation, f"{path}.confusion", Confusion(hits, 0, 5, missed))
    verdict = decide(policy, WDBC.labels, counts, evidence.smoke)
    return check_of(verdict, f"{rows}_sensitivity_proven")


@pytest.mark.parametrize("rows", ["holdout", "nested"])
def test_a_few_rows_without_an_error_prove_too_little(evidence, rows) -> None:
    assert proven(evidence, 11, 0, rows=rows).passed
    few = proven(evidence, 8, 0, rows=rows)
    assert not few.passed
    assert few.challenger == pytest.approx(0.05 ** (1 / 8))
    assert "at this share 3 more malignant ones are needed" in few.note
    assert "8 of 8 malignant rows" in few.note


def test_a_low_share_is_not_called_a_lack_of_rows(evidence) -> None:
    low = proven(evidence, 70, 30)
    assert not low.passed
    assert "more rows would not help" in low.note


def test_no_malignant_row_proves_nothing(evidence) -> None:
    none = proven(evidence, 0, 0)
    assert not none.passed
    assert "unknown value fails" in none.note


def test_floors_on_nested_cross_validation_fail_where_it_was_not_done(evidence) -> None:
    floors = (Floor("sensitivity", "nested", 0.9, proven=0.8),)
    policy = replace(evidence.policy, floors=floors)
    without = put(evidence.evaluation, "nested", None)
    verdict = decide(policy, WDBC.labels, without, evidence.smoke)
    assert failed(verdict) == {"nested_sensitivity", "nested_sensitivity_proven"}


@pytest.mark.parametrize("rows", ["holdout", "cross_validation"])
def test_the_worst_slice_that_is_large_enough_decides(evidence, rows) -> None:
    path = "challenger.holdout.slices" if rows == "holdout" else "cross_validation.slices"

    def judged(*slices: SliceScore) -> Verdict:
        return decide(
            evidence.policy, WDBC.labels, put(evidence.evaluation, path, slices), evidence.smoke
        )

    fine, poor = SliceScore("fine", 40, 30, 0.95, 1.0), SliceScore("poor", 40, 8, 0.74, 1.0)
    small = SliceScore("small", 40, 7, 0.0, 1.0)
    assert judged(fine, small).passed
    verdict = judged(fine, poor, small)
    assert failed(verdict) == {f"{rows}_worst_slice"}
    assert "poor, 8 malignant" in check_of(verdict, f"{rows}_worst_slice").note
    unknown = SliceScore("unknown", 40, 9, None, None)
    assert failed(judged(fine, unknown)) == {f"{rows}_worst_slice"}
    assert "Not judged: small, 7 malignant" in check_of(verdict, f"{rows}_worst_slice").note
    assert "Not judged: small" in check_of(judged(small), f"{rows}_worst_slice").note
    assert judged(small).passed


@pytest.mark.parametrize("rows", ["holdout", "cross_validation"])
def test_the_worst_subgroup_by_metadata_decides_where_it_has_enough_rows(evidence, rows) -> None:
    path = "challenger.holdout.slices" if rows == "holdout" else "cross_validation.slices"
    north = SliceScore("site: north", 60, 30, 0.95, 1.0, metadata="site")
    known = put(evidence.evaluation, "cross_validation.slices", (north,))

    def judged(*slices: SliceScore) -> Verdict:
        return decide(evidence.policy, WDBC.labels, put(known, path, slices), evidence.smoke)

    small = SliceScore("site: west", 60, 19, 0.3, 1.0, metadata="site")
    verdict = judged(north, small)
    assert verdict.passed
    check = check_of(verdict, f"{rows}_worst_subgroup")
    assert check.note == (
        "Worst: site: north, 30 malignant rows. Not judged: site: west, 19 malignant rows."
    )
    assert f"{rows}_worst_subgroup" in failed(judged(north, replace_rows(small, 20)))


def test_samples_without_metadata_have_no_check_of_subgroups(evidence) -> None:
    assert not [check for check in evidence.verdict.checks if "subgroup" in check.name]


def replace_rows(part: SliceScore, positive_rows: int) -> SliceScore:
    return msgspec.structs.replace(part, positive_rows=positive_rows)


def test_another_schema_blocks(evidence) -> None:
    other = evidence.but(challenger_side={"schema_fingerprint": "other"})
    assert failed(other.verdict) == {"same_schema"}


@pytest.mark.parametrize("as_of", ["2026-11-07T23:59:59Z", "2026-11-08T00:30:00+01:00", "soon"])
def test_older_data_never_replaces_newer(evidence, as_of) -> None:
    old = evidence.but(challenger_side={"as_of": as_of})
    assert failed(old.verdict) == {"data_age"}
    assert as_of in check_of(old.verdict, "data_age").note


@pytest.mark.parametrize("as_of", ["2026-11-08T00:00:00Z", "2026-11-08", "2027-01-01"])
def test_data_of_the_same_age_may(evidence, as_of) -> None:
    assert evidence.but(challenger_side={"as_of": as_of}).verdict.passed


def test_in_a_backfill_the_data_age_is_shown_and_does_not_block(evidence) -> None:
    old = evidence.but(challenger_side={"as_of": "2026-11-07T00:00:00Z"})
    verdict = decide(old.policy, WDBC.labels, old.evaluation, old.smoke, looks_back=True)
    assert (verdict.passed, verdict.reasons) == (True, ())
    age = check_of(verdict, "data_age")
    assert (age.passed, age.blocking) == (False, False)
    others = [check for check in verdict.checks if check.name != "data_age"]
    assert all(check.blocking for check in others)
    slow = replace(old, smoke=Smoke(True, 20, 0.0, 99.0))
    assert not decide(slow.policy, WDBC.labels, slow.evaluation, slow.smoke, looks_back=True).passed


def test_an_advisory_data_age_does_not_block_outside_a_backfill(evidence) -> None:
    old = evidence.but(
        challenger_side={"as_of": "2026-11-07T00:00:00Z"},
        policy=replace(evidence.policy, advisory=frozenset({"data_age"})),
    )
    assert old.verdict.passed
    assert not check_of(old.verdict, "data_age").blocking


@pytest.mark.parametrize(
    ("parity", "names"),
    [
        (Parity(100, 1.1e-12, 0), {"parity_difference"}),
        (Parity(100, 1e-16, 1), {"parity_flips"}),
        (Parity(0, 0.0, 0), {"parity_difference", "parity_flips"}),
    ],
)
def test_an_export_that_differs_blocks(evidence, parity, names) -> None:
    assert failed(evidence.but(parity=parity).verdict) == names


@pytest.mark.parametrize(
    ("smoke", "names"),
    [
        (Smoke(False, 20, 0.0, 1.0, "it exited with 1"), {"smoke_answers"}),
        (Smoke(True, 0, 0.0, 1.0), {"smoke_answers"}),
        (Smoke(True, 20, 1e-9, 1.0), {"smoke_agreement"}),
        (Smoke(True, 20, 0.0, 50.1), {"smoke_latency"}),
        (
            Smoke(False, 0, None, None, "no answer"),
            {"smoke_answers", "smoke_agreement", "smoke_latency"},
        ),
    ],
)
def test_a_service_that_does_not_answer_well_blocks(evidence, smoke, names) -> None:
    verdict = evidence.but(champion=None, smoke=smoke).verdict
    assert failed(verdict) == names
    if smoke.reason:
        assert check_of(verdict, "smoke_answers").note == smoke.reason


# Texts for reviewers -------------------------------------------------------------------


def test_every_check_explains_itself(evidence) -> None:
    for case in (evidence.but(champion=None), evidence, evidence.switch()):
        verdict = case.verdict
        names = [check.name for check in verdict.checks]
        assert len(names) == len(set(names))
        for check in verdict.checks:
            assert len(check.rule.split()) >= 4
            assert "None" not in check.rule + check.note
            assert "_" not in check.rule


def test_checks_carry_both_values_interval_and_bound(evidence) -> None:
    verdict = evidence.but_metrics("challenger", brier=0.022).verdict
    check = check_of(verdict, "no_harm_brier")
    assert (check.champion, check.challenger, check.bound) == (0.02, 0.022, 0.006)
    assert check.interval is None
    assert "over resamples -0.0040 to +0.0000" in check.note
    floor = check_of(verdict, "holdout_sensitivity")
    assert (floor.challenger, floor.bound) == (0.97, 0.90)
    assert floor.interval == Interval(0.9, 0.99, 0.95)
    tie = check_of(verdict, "f1_tie")
    assert (tie.champion, tie.challenger) == (0.96, 0.96)
    assert tie.bound == pytest.approx(0.935)


def test_a_verdict_survives_its_file_even_where_numbers_are_unknown(evidence, tmp_path) -> None:
    nan = float("nan")
    broken = put(
        evidence.but_metrics("challenger", f1=nan).evaluation,
        "cross_validation.intervals",
        {"sensitivity": Interval(nan, nan, 0.95)},
    )
    verdict = decide(evidence.policy, WDBC.labels, broken, evidence.smoke)
    assert not verdict.passed
    path = tmp_path / "verdict.json"
    written = encode_document(verdict)
    # JSON has no NaN: an unknown number is written as null.
    assert encode_document(decode_document(written, Verdict, path)) == written


def test_an_advisory_check_is_shown_but_does_not_block(evidence) -> None:
    worse = evidence.but_metrics("challenger", brier=0.0261)
    advisory = worse.but(policy=replace(worse.policy, advisory=frozenset({"no_harm_brier"})))
    verdict = advisory.verdict
    assert verdict.passed
    assert verdict.reasons == ()
    check = check_of(verdict, "no_harm_brier")
    assert (check.passed, check.blocking) == (False, False)
    # Shown to fail, so nobody may call it better either.
    assert not advisory.but_metrics("challenger", f1=1.0).verdict.better


# Policy ---------------------------------------------------------------------------------

OTHER: dict[str, Any] = {
    "floors": (),
    "f1_tie": 0.02,
    "margins": (Margin("f1", 0.03, "higher"),),
    "switch_alpha": 0.04,
    "slice_minimum_rows": 9,
    "subgroup_minimum_rows": 30,
    "slice_sensitivity": 0.8,
    "parity_bound": 1e-9,
    "smoke_latency_ms": 40.0,
    "bootstrap_rounds": 1000,
    "bootstrap_seed": 1,
    "level": 0.9,
    "advisory": frozenset({"f1_tie"}),
    "anchor_margins": (Margin("f1", 0.1, "higher"),),
    "sequential_alpha": 0.01,
    "leak": LeakPolicy(brier=0.02, deviation=0.08),
}


@pytest.mark.parametrize("name", [field.name for field in fields(GatePolicy)])
def test_every_field_of_the_policy_is_in_its_digest(evidence, name) -> None:
    other = replace(evidence.policy, **{name: OTHER[name]})
    assert other.digest != evidence.policy.digest
    assert replace(other, **{name: getattr(evidence.policy, name)}).digest == evidence.policy.digest


@pytest.mark.parametrize("name", [field.name for field in fields(Margin)])
def test_every_field_of_a_margin_is_in_the_digest(evidence, name) -> None:
    other = {
        "metric": "roc_auc",
        "margin": 0.5,
        "better": "lower",
        "negligible": 0.4,
        "rows": "cross_validation",
    }[name]
    first, *rest = evidence.policy.margins
    changed = replace(evidence.policy, margins=(replace(first, **{name: other}), *rest))
    assert changed.digest != evidence.policy.digest


def test_the_policy_of_wdbc_names_only_checks_there_are(evidence, wdbc: Problem) -> None:
    from bc_pipeline.evaluation.metrics import METRICS

    policy = wdbc.gate
    named = {floor.metric for floor in policy.floors} | {m.metric for m in policy.margins}
    assert named <= set(METRICS)
    numbers = dict.fromkeys(METRICS, 0.5)
    verdict = (
        evidence.but(policy=policy, champion=numbers, challenger=numbers, cross_validation=numbers)
        .switch()
        .verdict
    )
    assert policy.advisory <= {check.name for check in verdict.checks}
