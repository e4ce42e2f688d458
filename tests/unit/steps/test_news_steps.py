"""Nothing new to train on: by snapshot, and by `bc-pipeline run`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bc_pipeline.problems
from bc_pipeline import steps
from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.store import Store
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings
from tests.unit.commands import run_command
from tests.unit.steps.runs import judge, week

pytestmark = pytest.mark.integration
Land = Callable[..., Path]


def news(number: int, **options: Any) -> dict[str, Any]:
    run = replace(week(number), **options)
    dataset = steps.snapshot(Settings(), run, "")["dataset"]
    return steps.find_news(Settings(), run, dataset)


def test_the_champions_rows_are_nothing_new_and_others_are(
    toy: Problem, land: Land, sound_service: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.ingest(Settings(), week(1))
    assert news(1)["new"]
    champion = judge(week(1))["version"]
    steps.promote(Settings(), week(1), champion)
    again = news(2)
    assert not again["new"]
    assert champion in again["reason"]
    assert news(2, looks_back=True)["new"]
    assert news(2, live=False)["new"]
    dataset = steps.snapshot(Settings(), week(2), "")["dataset"]
    assert steps.find_news(Settings(), week(2), dataset, anyway=True)["new"]
    with monkeypatch.context() as patch:
        patch.setattr("bc_pipeline.steps.news_steps.code_version", lambda: "9.9.9+other")
        assert news(2)["new"]
    land("more.csv", 2, "2026-03-01T12:00:00Z")
    steps.ingest(Settings(), week(2))
    assert news(2)["new"]


def test_a_model_that_was_rolled_back_is_not_made_again_under_another_name(
    toy: Problem, land: Land, sound_service: None
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.ingest(Settings(), week(1))
    first = judge(week(1))["version"]
    steps.promote(Settings(), week(1), first)
    land("more.csv", 2, "2026-03-01T12:00:00Z")
    steps.ingest(Settings(), week(2))
    second = judge(week(2))["version"]
    steps.promote(Settings(), week(2), second)
    steps.rollback(Settings(), "toy", None, "cli:ada (uid 7)", "harm at clinic B")
    again = news(3)
    assert not again["new"]
    assert f"{second}, which was rolled back by cli:ada (uid 7) at " in again["reason"]
    assert again["reason"].endswith(": harm at clinic B.")
    steps.rollback(Settings(), "toy", second, "cli:ada (uid 7)")
    assert news(3)["reason"].endswith(f"trained the champion {second}.")


def test_a_model_that_a_person_refused_is_not_made_again_under_another_name(
    toy: Problem, land: Land, sound_service: None
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.ingest(Settings(), week(1))
    version = judge(week(1))["version"]
    digest = steps.verdict(Settings(), "toy", version)["manifest_sha256"]
    words = (week(1), version, digest)
    steps.approve(Settings(), *words, False, "nobody, in time", "approval_expired")
    assert news(2)["new"]
    steps.approve(Settings(), *words, False, "otto", "labels are doubtful")
    again = news(2)
    assert not again["new"]
    assert f"{version}, which was refused by otto at " in again["reason"]
    (latest, *_) = steps.verdict(Settings(), "toy", version)["decisions"]
    assert (latest["event"], latest["reason"]) == ("refusal", "labels are doubtful")
    approved = steps.approve(Settings(), *words, True, "eve")
    assert approved["overrides"].startswith("refused by otto at ")
    assert news(2)["new"]


def run(*words: str, code: int = 0) -> dict[str, Any]:
    result = run_command("run", "--problem", "toy", "--json", *words, code=code)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_the_command_ends_as_the_dag_does(toy: Problem, land: Land, sound_service: None) -> None:
    land("base.csv", 1, "2026-02-01")
    first = run()
    assert (first["conclusion"], first["promoted"]) == ("promoted", True)
    again = run(code=13)
    assert (again["conclusion"], again["version"], again["challengers"]) == (
        "nothing_new",
        None,
        [],
    )
    assert first["version"] in again["reason"]
    assert run("--anyway")["conclusion"] == "promoted"


def test_a_problem_that_requires_approvals_is_staged_until_another_person_approves(
    toy: Problem,
    land: Land,
    sound_service: None,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strict = replace(toy, requires_approval=True)
    monkeypatch.setattr(bc_pipeline.problems, "PROBLEMS", (strict,))
    land("base.csv", 1, "2026-02-01")
    staged = run(code=14)
    version, words = staged["version"], ("--problem", "toy", "--reason", "r", "--json")
    assert staged["conclusion"] == "awaiting_approval"
    for command in ("promote", "approve"):
        refused = json.loads(run_command(command, version, *words, code=6).stdout)["error"]
        assert refused["code"] == "not-releasable"
    monkeypatch.setattr("bc_pipeline.cli.releases.actor", lambda: "cli:otto (uid 8)")
    approved = json.loads(run_command("approve", version, *words).stdout)
    assert (approved["changed"], approved["batch_scoring_follows"]) == (True, False)
    lines = read_audit_log(Store(settings.home, "toy")).lines
    approval = next(line for line in lines if line.event == "approval")
    assert (approval.actor, approval.details["reason"]) == ("cli:otto (uid 8)", "r")
    verdict = next(line for line in lines if line.event == "verdict")
    assert verdict.details["requires_approval"]
    assert verdict.details["requested_by"].startswith("cli:")
