"""What the DAGs do, run by Airflow itself with steps that only answer (``play.py``)."""

from __future__ import annotations

import importlib
import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from bc_pipeline import steps
from bc_pipeline.code_version import sources_digest
from bc_pipeline.run_note import read_concluded

ROOT = Path(__file__).parents[2]
RETRAIN, SCORE, APPROVAL = "wdbc_retrain", "wdbc_batch_score", "wdbc_approval"
VERSION = "20260104T000000Z-logistic-0a1b2c3d4e"
REFIT = "20260104T000000Z-svm_rbf-5e4d3c2b1a"
LATE = "20260103T000000Z-logistic-1a1a1a1a1a"
NOT_PASSED = {"passed": False, "reasons": ["F1 too low", "Brier too high"]}
REJECTED = {"decide": {VERSION: NOT_PASSED}}
SECOND = [{"candidate": "svm_rbf", "params": {"C": 4.0}, "threshold": 0.3, "refit": True}]
UNCHANGED = {"promote": {"version": VERSION, "generation": 1, "changed": False}}
REFUSED_FILES = {
    "batches": 1,
    "refused": [{"file": "late.csv", "code": "file-refused", "reason": "late.csv is of 2106."}],
    "newly_quarantined": [{"batch": "0a1b", "source": "a.csv", "read": 9, "quarantined": 2}],
    "notes": ["1 landed file was refused: late.csv is of 2106.", "2 of 9 rows of a.csv"],
}
ASK = {"require_approval": True}
NO_NEWS = {"new": False, "reason": "The rows are those of the champion."}


def approves(user: str | None, choice: str, **conf: str) -> dict[str, Any]:
    answer = {"user": user, "choice": choice}
    return {"dag": APPROVAL, "conf": {"version": VERSION} | conf, "answer": answer}


SCENARIOS: dict[str, dict[str, Any]] = {
    "passed": {
        "dag": RETRAIN,
        "logical_date": "2026-01-07T00:00:00+00:00",
        "run_type": "scheduled",
    },
    "triggered with a date": {"dag": RETRAIN, "logical_date": "2026-01-14T00:00:00+00:00"},
    "no date": {"dag": RETRAIN},
    "as of": {"dag": RETRAIN, "conf": {"as_of": "2026-03-01T06:00:00+02:00"}},
    "over the api": {
        "dag": RETRAIN,
        "conf": {"requested_by": "hospital-a (API key 1f2e)"},
        # `dag.test()` triggers as this user.
        "environment": {"BC_AIRFLOW_USER": "dag_test"},
    },
    "by somebody who names another": {"dag": RETRAIN, "conf": {"requested_by": "eve"}},
    # Matches the pattern that Airflow checks; in UTC it is before the calendar's first time.
    "as of nonsense": {"dag": RETRAIN, "conf": {"as_of": "0001-01-01T00:00:00+05:00"}},
    "as of a time to come": {"dag": RETRAIN, "conf": {"as_of": "2099-01-01T00:00:00Z"}},
    "outcomes": {"dag": RETRAIN, "conf": {"land_outcomes": True}},
    "not taken": {
        "dag": RETRAIN,
        "answers": {"ingest": REFUSED_FILES},
    },
    "not taken, and failed": {
        "dag": RETRAIN,
        "answers": {"ingest": REFUSED_FILES},
        "failures": {"validate": {"error": "data", "times": 9}},
    },
    "rejected": {"dag": RETRAIN, "answers": REJECTED},
    "rejected, approval on": {"dag": RETRAIN, "answers": REJECTED, "conf": ASK},
    "unchanged": {"dag": RETRAIN, "answers": UNCHANGED},
    "not releasable": {
        "dag": RETRAIN,
        "failures": {"promote": {"error": "not_releasable", "times": 9}},
    },
    "died after the release": {
        "dag": RETRAIN,
        "answers": UNCHANGED,
        "failures": {"promote": {"error": "transient", "times": 1}},
    },
    "both pass": {"dag": RETRAIN, "answers": {"challengers": SECOND}},
    "refresh wins": {
        "dag": RETRAIN,
        "answers": REJECTED | {"challengers": SECOND},
        "conf": ASK,
    },
    "tie": {"dag": RETRAIN, "answers": {"decide": {VERSION: NOT_PASSED | {"tie": True}}}},
    "nothing new": {"dag": RETRAIN, "answers": {"find_news": NO_NEWS}},
    "nothing new, but anyway": {
        "dag": RETRAIN,
        "answers": {"find_news": NO_NEWS},
        "conf": {"train_anyway": True},
    },
    "too few rows": {"dag": RETRAIN, "failures": {"train": {"error": "too_few_rows", "times": 9}}},
    "another release came first": {
        "dag": RETRAIN,
        "failures": {"promote": {"error": "conflict", "times": 9}},
    },
    "policy requires approval": {"dag": RETRAIN, "answers": {"needs_approval": {"needed": True}}},
    "approval requested": {"dag": RETRAIN, "conf": ASK},
    "approved": approves("ada", "Approve"),
    "refused": approves("ada", "Reject"),
    "nobody answered": approves(None, "Reject"),
    "own approval": approves("ada", "Approve", version=REFIT),
    "own rejection": approves("ada", "Reject", version=REFIT),
    "another's approval": approves("otto", "Approve", version=REFIT),
    "the only user's approval": approves("ada", "Approve", version=REFIT)
    | {"environment": {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ada:admin,eve:viewer"}},
    "another digest": {"dag": APPROVAL, "conf": {"version": VERSION, "digest": "0" * 64}},
    "superseded before": {"dag": APPROVAL, "conf": {"version": LATE}},
    "backfill": {
        "dag": RETRAIN,
        "logical_date": "2026-02-01T00:00:00+00:00",
        "run_type": "backfill",
        "conf": ASK,
    },
    "backfill that promotes": {
        "dag": RETRAIN,
        "logical_date": "2026-02-08T00:00:00+00:00",
        "run_type": "backfill",
        "conf": {"promote_backfill": True},
    },
    "transient": {"dag": SCORE, "failures": {"batch_score": {"error": "transient", "times": 2}}},
    "transient for good": {
        "dag": SCORE,
        "failures": {"batch_score": {"error": "transient", "times": 9}},
    },
    "bad data": {"dag": RETRAIN, "failures": {"validate": {"error": "data", "times": 9}}},
    "unknown": {"dag": SCORE, "failures": {"batch_score": {"error": "unknown", "times": 1}}},
    "scored": {"dag": SCORE},
    "no champion": {
        "dag": SCORE,
        "failures": {"batch_score": {"error": "no_champion", "times": 9}},
    },
    "nothing waits": {
        "dag": SCORE,
        "failures": {"batch_score": {"error": "nothing_there", "times": 9}},
    },
    "source is missing": {
        "dag": SCORE,
        "conf": {"source": "/nowhere.csv"},
        "failures": {"batch_score": {"error": "nothing_there", "times": 9}},
    },
}


LISTENED = ("approved", "refused", "nobody answered", "another's approval", "rejected", "scored")
for day, name in enumerate(LISTENED, 1):
    # ``dag.test()`` deletes an earlier run of the same date, or of none, and `heard` needs these.
    SCENARIOS[name]["logical_date"] = f"2026-03-{day:02}T00:00:00+00:00"


class Played:
    """What came of one scenario."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report
        self.state = report["state"]
        self.events = report["events"]

    def states(self, *names: str) -> list[str]:
        found = {task["task"]: task["state"] for task in self.report["tasks"]}
        return [found[name] for name in names]

    def tries(self, name: str) -> int:
        return next(task["tries"] for task in self.report["tasks"] if task["task"] == name)

    def calls(self, step: str) -> list[dict[str, Any]]:
        return [call for call in self.report["calls"] if call["step"] == step]

    @property
    def run(self) -> dict[str, Any]:
        """The `Run` that the steps were given; the same for all of them."""
        runs = {json.dumps(call["run"], sort_keys=True) for call in self.report["calls"]}
        (run,) = runs
        return json.loads(run)


@pytest.fixture(scope="session")
def played(
    airflow_environment: dict[str, str],
    run_script: Any,
    publish_to: Any,
    judge_against_champion: Any,
    tmp_path_factory: Any,
) -> dict[str, Played]:
    home = Path(airflow_environment["BC_HOME"])
    digests = {version: publish_to(home, version) for version in (VERSION, REFIT)}
    publish_to(home, LATE, generation=2)
    judge_against_champion(home, {REFIT: "ada"})
    for scenario in SCENARIOS.values():
        answers = scenario.setdefault("answers", {})
        answer = answers.get("decide", {})
        answers["decide"] = {
            version: {"digest": digest} | answer.get(version, {})
            for version, digest in digests.items()
        }
    scenarios = tmp_path_factory.mktemp("scenarios") / "scenarios.json"
    scenarios.write_text(json.dumps(SCENARIOS))
    reports = run_script("play.py", airflow_environment, str(scenarios))
    return {name: Played(report) for name, report in reports.items()}


def test_a_passed_challenger_is_promoted_and_announced(played: dict[str, Played]) -> None:
    seen = played["passed"]
    assert seen.state == "success"
    assert seen.states("decide", "request_approval", "promote", "record") == [
        "success",
        "skipped",
        "success",
        "success",
    ]
    assert seen.report["requested"] == []
    assert seen.events == [
        {"asset": "wdbc_champion", "extra": {"version": VERSION, "generation": 1}}
    ]


def test_steps_are_called_with_what_earlier_steps_gave(played: dict[str, Played]) -> None:
    seen = played["passed"]
    assert [call["step"] for call in seen.report["calls"]] == [
        "ingest",
        "validate",
        "snapshot",
        "find_news",
        *["train"] * 4,
        "select",
        "challengers",
        "export",
        "evaluate",
        "decide",
        "choose",
        "promote",
        "record",
    ]
    assert seen.calls("snapshot")[0]["validation"] == "val-1"
    assert {call["dataset"] for call in seen.calls("train")} == {"data-1"}
    export = seen.calls("export")[0]
    assert (export["dataset"], export["candidate"], export["threshold"], export["validation"]) == (
        "data-1",
        "logistic",
        0.4,
        "val-1",
    )
    assert export["batches"] == ["batch-1", "batch-2"]
    assert seen.calls("challengers")[0]["batches"] == ["batch-1", "batch-2"]
    assert seen.calls("promote")[0]["version"] == VERSION


def test_each_candidate_is_a_task_of_its_own_name(played: dict[str, Played], wdbc: Any) -> None:
    labels = {task["label"] for task in played["passed"].report["tasks"] if task["task"] == "train"}
    assert labels == {candidate.name for candidate in wdbc.candidates}


def test_the_verdict_is_the_result_of_the_run(played: dict[str, Played]) -> None:
    results = played["rejected"].report["results"]
    assert results["choose"]["passed"] is False
    assert results["choose"]["reasons"] == NOT_PASSED["reasons"]


def test_as_of_is_the_end_of_the_interval(played: dict[str, Played]) -> None:
    run = played["passed"].run
    # The logical date is a Wednesday: the last full week before it counts.
    assert run["interval_start"] == "2025-12-28T00:00:00Z"
    assert run["interval_end"] == run["as_of"] == "2026-01-04T00:00:00Z"
    assert run["live"] is True


def test_a_run_says_which_code_of_the_dag_it_runs(played: dict[str, Played]) -> None:
    retrain, score = (played[name].run["dag"] for name in ("passed", "scored"))
    assert (retrain["dag_id"], score["dag_id"]) == ("wdbc_retrain", "wdbc_batch_score")
    # `dag.test()` has no bundle, so the origin of the file is tested in a real run.
    assert retrain["bundle"] is retrain["bundle_version"] is None
    assert UUID(retrain["version_id"])
    # The plugin's code is the same, the file of the DAG is another.
    assert retrain["sha256"] != score["sha256"]
    assert retrain["sha256"] == sources_digest(
        ROOT / "plugins" / "bc_airflow", [ROOT / "dags" / "retrain.py"]
    )


@pytest.mark.parametrize("name", ["no date", "triggered with a date"])
def test_as_of_is_the_moment_of_triggering_whatever_the_logical_date(
    played: dict[str, Played], name: str
) -> None:
    """The trigger form prefills the logical date."""
    seen = played[name]
    assert seen.run["interval_start"] is seen.run["interval_end"] is None
    assert seen.run["as_of"] == seen.report["run_after"][:19] + "Z"
    assert seen.run["requested_by"] == "dag_test"


def test_only_the_services_user_is_believed_about_who_requested_a_run(
    played: dict[str, Played],
) -> None:
    assert played["over the api"].run["requested_by"] == "hospital-a (API key 1f2e), as dag_test"
    assert played["by somebody who names another"].run["requested_by"] == "dag_test"


def test_as_of_can_be_asked_for(played: dict[str, Played]) -> None:
    assert played["as of"].run["as_of"] == "2026-03-01T04:00:00Z"


@pytest.mark.parametrize("name", ["as of nonsense", "as of a time to come"])
def test_an_as_of_that_cannot_be_fails_at_once(played: dict[str, Played], name: str) -> None:
    seen = played[name]
    assert seen.state == "failed"
    assert seen.tries("ingest") == 1
    assert seen.report["calls"] == []


def test_outcomes_are_landed_before_ingest_where_they_are_asked_for(
    played: dict[str, Played],
) -> None:
    seen = played["outcomes"]
    assert seen.state == "success"
    assert [call["step"] for call in seen.report["calls"]][:2] == ["land_outcomes", "ingest"]
    assert seen.calls("land_outcomes")[0]["run"] == seen.calls("ingest")[0]["run"]
    assert played["passed"].calls("land_outcomes") == []


@pytest.mark.parametrize("name", ["not taken", "not taken, and failed"])
def test_what_ingest_did_not_take_is_on_the_run(played: dict[str, Played], name: str) -> None:
    seen = played[name]
    assert seen.states("ingest") == ["success"]
    assert seen.state == ("failed" if "failed" in name else "success")
    result, *rest = seen.report["note"].splitlines()
    assert result.startswith("Result: data_unfit" if "failed" in name else "Result: promoted")
    assert rest == [
        "Ingest: 1 landed file was refused: late.csv is of 2106.",
        "Ingest: 2 of 9 rows of a.csv",
    ]


@pytest.mark.parametrize("name", ["rejected", "rejected, approval on"])
def test_a_rejected_challenger_is_a_run_that_succeeds(played: dict[str, Played], name: str) -> None:
    seen = played[name]
    assert seen.state == "success"
    assert seen.states("decide", "request_approval", "promote", "record") == [
        "success",
        "skipped",
        "skipped",
        "success",
    ]
    assert seen.calls("promote") == []
    assert seen.events == []


@pytest.mark.parametrize("name", ["unchanged", "not releasable"])
def test_no_new_champion_updates_no_asset(played: dict[str, Played], name: str) -> None:
    seen = played[name]
    assert seen.state == "success"
    assert seen.states("promote", "record") == ["skipped", "success"]
    assert seen.events == []


def test_both_challengers_are_judged_and_one_is_promoted(played: dict[str, Played]) -> None:
    seen = played["both pass"]
    assert seen.state == "success"
    for step in ("export", "evaluate", "decide"):
        assert len(seen.calls(step)) == 2
    second = next(call for call in seen.calls("export") if call["refit"])
    assert {name: second[name] for name in SECOND[0]} == SECOND[0]
    (chosen,) = seen.calls("choose")
    assert [each["version"] for each in chosen["decisions"]] == [VERSION, REFIT]
    assert [call["version"] for call in seen.calls("promote")] == [VERSION]
    labels = {t["label"] for t in seen.report["tasks"] if t["task"] == "decide"}
    assert labels == {VERSION, REFIT}


def test_the_refresh_wins_where_the_switch_is_rejected(played: dict[str, Played]) -> None:
    seen = played["refresh wins"]
    assert seen.state == "success"
    # The approval is about the winner.
    (requested,) = seen.report["requested"]
    digest = SCENARIOS["refresh wins"]["answers"]["decide"][REFIT]["digest"]
    assert requested["conf"] == {"version": REFIT, "digest": digest}
    assert seen.calls("promote") == []


@pytest.mark.parametrize("name", ["approval requested", "policy requires approval"])
def test_a_run_that_needs_an_approval_requests_it_and_ends(
    played: dict[str, Played], name: str
) -> None:
    """By policy or by the run: it occupies no slot that later retrains wait for."""
    seen = played[name]
    assert seen.state == "success"
    assert seen.states("request_approval", "promote", "record") == ["success", "skipped", "success"]
    (requested,) = seen.report["requested"]
    assert requested["dag"] == APPROVAL
    assert requested["conf"]["version"] == VERSION
    assert seen.events == []


CONCLUSIONS = {
    "passed": "promoted",
    "rejected": "gate_failed",
    "tie": "tie",
    "nothing new": "nothing_new",
    "nothing new, but anyway": "promoted",
    "unchanged": "already_released",
    "not releasable": "not_releasable",
    "too few rows": "too_few_rows",
    "bad data": "data_unfit",
    "another release came first": "superseded",
    "approval requested": "awaiting_approval",
    "approved": "promoted",
    "refused": "approval_refused",
    "nobody answered": "approval_expired",
    "own approval": "not_releasable",
    "superseded before": "superseded",
    "another digest": "failed",
    "backfill": "verdict_only",
    "scored": "scored",
    "no champion": "no_champion",
    "nothing waits": "nothing_to_score",
    "source is missing": "failed",
    "transient for good": "failed",
}


@pytest.mark.parametrize("name", CONCLUSIONS)
def test_the_page_of_a_run_says_how_it_ended(played: dict[str, Played], name: str) -> None:
    concluded = read_concluded(played[name].report["note"])
    assert concluded is not None
    assert concluded.conclusion == CONCLUSIONS[name]
    assert concluded.reason


def test_nothing_new_trains_nothing_and_says_why(played: dict[str, Played]) -> None:
    seen = played["nothing new"]
    assert seen.state == "success"
    assert seen.states("find_news", "select", "choose", "promote", "record") == [
        *["skipped"] * 4,
        "success",
    ]
    assert "The rows are those of the champion." in seen.report["note"]
    assert seen.calls("train") == seen.calls("promote") == []


def test_a_release_that_died_before_it_told_tells_on_the_next_try(
    played: dict[str, Played],
) -> None:
    seen = played["died after the release"]
    assert seen.tries("promote") == 2
    assert [event["asset"] for event in seen.events] == ["wdbc_champion"]


def test_an_approval_promotes_and_names_who_gave_it(played: dict[str, Played]) -> None:
    seen = played["approved"]
    assert seen.state == "success"
    assert seen.states("approve", "promote", "record") == ["success"] * 3
    assert seen.calls("approve")[0] | {"run": None} == {
        "step": "approve",
        "run": None,
        "version": VERSION,
        "digest": SCENARIOS["approved"]["answers"]["decide"][VERSION]["digest"],
        "approved": True,
        "decided_by": "ada",
        "reason": "",
        "one_user": "",
    }
    assert seen.events == [
        {"asset": "wdbc_champion", "extra": {"version": VERSION, "generation": 1}}
    ]


def test_who_started_the_run_cannot_approve_its_model_and_another_can(
    played: dict[str, Played],
) -> None:
    seen = played["own approval"]
    assert seen.state == "failed"
    assert seen.tries("approve") == 1
    assert "ada requested" in seen.report["note"]
    assert "another person must approve it" in seen.report["note"]
    assert "Requested by ada: another person must approve it." in seen.report["asked"]["body"]
    assert seen.calls("approve") == seen.calls("promote") == []
    other = played["another's approval"]
    assert other.calls("approve")[0]["decided_by"] == "otto"
    assert len(other.events) == 1
    assert played["own rejection"].calls("approve")[0]["approved"] is False


def test_the_only_user_who_may_decide_approves_and_the_audit_log_says_so(
    played: dict[str, Played],
) -> None:
    seen = played["the only user's approval"]
    assert (seen.state, seen.states("promote")) == ("success", ["success"])
    (decided,) = seen.calls("approve")
    assert decided["decided_by"] == "ada"
    assert decided["one_user"] == (
        "Airflow's Simple auth manager has one user who may decide: ada."
    )
    assert "one user who may decide: ada" in seen.report["asked"]["body"]


@pytest.fixture(scope="session")
def heard(
    played: dict[str, Played],
    airflow_environment: dict[str, str],
    run_script: Any,
    tmp_path_factory: Any,
) -> dict[str, Any]:
    """What ``listen.py`` saw; the runs by the names of their scenarios."""
    waiting = ("refused", "nobody answered", "another's approval")
    names = {"newer": "approved", "promoted": "passed", "rejected": "rejected", "scored": "scored"}
    runs = {role: played[name].report["run_id"] for role, name in names.items()}
    path = tmp_path_factory.mktemp("listened") / "runs.json"
    path.write_text(
        json.dumps(runs | {"waiting": [played[name].report["run_id"] for name in waiting]})
    )
    environment = airflow_environment | {"PYTHONPATH": str(ROOT / "plugins")}
    result: dict[str, Any] = run_script("listen.py", environment, str(path))
    by_id = {seen.report["run_id"]: name for name, seen in played.items()}
    result["expired"] = {
        role: {by_id[run_id] for run_id in found} for role, found in result["expired"].items()
    }
    return result


def test_waiting_approvals_end_when_a_later_run_asks_or_promotes(heard: dict[str, Any]) -> None:
    """One that was answered already, and the asking run itself, do not."""
    assert heard["expired"] == {
        "newer": {"refused", "nobody answered"},
        "promoted": {"refused", "nobody answered", "approved"},
        "rejected": set(),
        "scored": set(),
    }


def test_the_verdict_of_an_approvals_run_is_that_of_its_version(heard: dict[str, Any]) -> None:
    assert heard["decided"] == [VERSION]


def test_users_are_told_apart_where_two_may_decide(heard: dict[str, Any]) -> None:
    assert heard["users"] == {
        "two": "",
        "one and a reader": "Airflow's Simple auth manager has one user who may decide: ada.",
        "all admins": "Airflow lets everybody in as one administrator "
        "(simple_auth_manager_all_admins).",
        "another manager": "",
    }


@pytest.mark.parametrize("name", ["another digest", "superseded before"])
def test_what_cannot_be_promoted_is_not_asked(played: dict[str, Played], name: str) -> None:
    seen = played[name]
    assert seen.report["asked"] == {}
    assert seen.report["calls"] == [] or seen.calls("promote") == []
    assert seen.events == []


def test_the_question_is_bound_to_the_digest_and_shows_the_verdict(
    played: dict[str, Played],
) -> None:
    seen = played["approved"]
    asked, decision = seen.report["asked"], SCENARIOS["approved"]["answers"]["decide"][VERSION]
    assert VERSION in asked["subject"]
    assert decision["digest"] in asked["body"]
    assert (
        "| sensitivity_floor | sensitivity on the holdout at least 0.9 | 0.9762 | 0.9524 "
        "| 0.8871 to 1 | passed |" in asked["body"]
    )
    assert "**Figures, holdout**" in asked["body"]
    assert f"| version | 20251228T000000Z-logistic-0000000000 | {VERSION} |" in asked["body"]
    assert f"/bc/dags/wdbc_approval/versions/{VERSION})" in asked["body"]
    assert asked["defaults"] == ["Reject"]
    assert seen.report["approval"]["digest"] == decision["digest"]


@pytest.mark.parametrize(
    ("name", "by"), [("refused", "ada"), ("nobody answered", "nobody, in time")]
)
def test_a_refusal_or_no_answer_keeps_the_champion(
    played: dict[str, Played], name: str, by: str
) -> None:
    seen = played[name]
    assert seen.state == "success"
    assert seen.states("approve", "promote", "record") == ["success", "skipped", "success"]
    assert seen.calls("promote") == []
    assert seen.events == []
    decided = seen.calls("approve")[0]
    assert (decided["approved"], decided["decided_by"]) == (False, by)


def test_a_backfill_leaves_a_verdict_and_nothing_else(played: dict[str, Played]) -> None:
    seen = played["backfill"]
    assert seen.state == "success"
    assert seen.run["live"] is False
    assert seen.run["as_of"] == "2026-02-01T00:00:00Z"
    assert seen.states("decide", "request_approval", "promote", "record") == [
        "success",
        "skipped",
        "skipped",
        "success",
    ]
    assert seen.events == []


def test_a_backfill_promotes_when_asked(played: dict[str, Played]) -> None:
    seen = played["backfill that promotes"]
    assert seen.run["live"] is True
    assert seen.states("promote") == ["success"]
    assert len(seen.events) == 1


def test_a_transient_error_is_tried_again(played: dict[str, Played]) -> None:
    seen = played["transient"]
    assert seen.state == "success"
    assert seen.tries("score") == 3


def test_tries_end(played: dict[str, Played]) -> None:
    seen = played["transient for good"]
    assert seen.state == "failed"
    assert len(seen.calls("batch_score")) == 3


def test_bad_data_fails_at_once(played: dict[str, Played]) -> None:
    seen = played["bad data"]
    assert seen.state == "failed"
    assert len(seen.calls("validate")) == 1
    assert seen.states("snapshot", "promote", "record") == ["upstream_failed"] * 3


def test_what_the_taxonomy_does_not_know_is_tried_again(played: dict[str, Played]) -> None:
    assert played["unknown"].state == "success"
    assert len(played["unknown"].calls("batch_score")) == 2


def test_scores_are_announced(played: dict[str, Played]) -> None:
    seen = played["scored"]
    assert seen.state == "success"
    (event,) = seen.events
    assert event["asset"] == "wdbc_scores"
    assert event["extra"]["scored"] == 8


@pytest.mark.parametrize("name", ["no champion", "nothing waits"])
def test_nothing_to_do_is_a_skip(played: dict[str, Played], name: str) -> None:
    seen = played[name]
    assert seen.state == "success"
    assert seen.states("score") == ["skipped"]
    assert seen.events == []


def test_a_source_that_is_missing_fails(played: dict[str, Played]) -> None:
    seen = played["source is missing"]
    assert seen.state == "failed"
    assert len(seen.calls("batch_score")) == 1


def test_the_fake_steps_have_the_signatures_of_the_real_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    fake = importlib.import_module("fake_steps")
    functions = [
        name
        for name, value in vars(fake).items()
        if inspect.isfunction(value) and not name.startswith("_") and name != "dataclass"
    ]
    assert len(functions) == 17
    for name in functions:
        ours, theirs = (
            [
                (p.name, p.default)
                for p in inspect.signature(getattr(module, name)).parameters.values()
            ]
            for module in (fake, steps)
        )
        assert ours == theirs, name
    assert [f.name for f in fields(fake.Run)] == [f.name for f in fields(steps.Run)]
