"""Steps that do nothing but answer as a scenario says, so that the wiring of DAGs can be run.

The scenario is a JSON file, named by ``FAKE_STEPS``; each call is appended to the file beside
it. Both survive the processes that Airflow forks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bc_pipeline.errors import (
    ExpectationsFailed,
    NoChampion,
    NotReleasable,
    NotStored,
    TooFewRows,
    TransientError,
    VersionConflict,
)
from bc_pipeline.settings import Settings

VERSION = "20260104T000000Z-logistic-0a1b2c3d4e"
REFIT = "20260104T000000Z-svm_rbf-5e4d3c2b1a"
DIGEST = "d" * 64
_ERRORS = {
    "transient": TransientError("The lock is held."),
    "data": ExpectationsFailed("The suite failed.", suite="labelled", failed=("mean_radius",)),
    "no_champion": NoChampion("Nothing was promoted yet."),
    "nothing_there": NotStored("There is no file."),
    "not_releasable": NotReleasable("A person rejected it."),
    "too_few_rows": TooFewRows("The smaller class has 3 train rows.", rows=3, needed=10),
    "conflict": VersionConflict("Another release came first."),
    "unknown": OSError("No space left on device"),
}


@dataclass(frozen=True)
class Run:
    problem: str
    run_id: str
    as_of: str
    interval_start: str | None = None
    interval_end: str | None = None
    live: bool = True
    looks_back: bool = False
    dag: Any = None
    requires_approval: bool = False
    requested_by: str | None = None


def _scenario() -> dict[str, Any]:
    path = os.environ.get("FAKE_STEPS")
    return json.loads(Path(path).read_text()) if path else {}


def _call(step: str, run: Run, **arguments: Any) -> Any:
    """Note the call, then fail as often as the scenario says, else give its answer."""
    scenario = _scenario()
    if path := os.environ.get("FAKE_STEPS"):
        calls = Path(path).with_suffix(".calls")
        earlier = calls.read_text().splitlines() if calls.exists() else []
        tries = sum(json.loads(line)["step"] == step for line in earlier)
        with calls.open("a") as stream:
            described = vars(run) | {"dag": msgspec.to_builtins(run.dag)}
            stream.write(json.dumps({"step": step, "run": described} | arguments) + "\n")
        failures = scenario.get("failures", {}).get(step)
        if failures and tries < failures["times"]:
            raise _ERRORS[failures["error"]]
    return scenario.get("answers", {}).get(step)


def land_outcomes(settings: Settings, run: Run, *, again: bool = False) -> dict[str, Any]:
    return _call("land_outcomes", run) or {"outcomes": 2, "landed": 2}


def ingest(settings: Settings, run: Run) -> dict[str, Any]:
    return _call("ingest", run) or {"batches": 1, "read": 9, "accepted": 9, "quarantined": 0}


def validate(settings: Settings, run: Run) -> dict[str, Any]:
    return _call("validate", run) or {"validation": "val-1", "rows": 9, "report": "index.html"}


def snapshot(settings: Settings, run: Run, validation: str) -> dict[str, Any]:
    return _call("snapshot", run, validation=validation) or {
        "dataset": "data-1",
        "batches": ["batch-1", "batch-2"],
        "rows": 9,
        "train_rows": 7,
        "holdout_rows": 2,
        "validation": validation,
    }


def find_news(settings: Settings, run: Run, dataset: str, anyway: bool = False) -> dict[str, Any]:
    answer = _call("find_news", run, dataset=dataset, anyway=anyway)
    return {"new": True, "reason": ""} if anyway or not answer else answer


def train(settings: Settings, run: Run, dataset: str, candidate: str) -> dict[str, Any]:
    _call("train", run, dataset=dataset, candidate=candidate)
    return {"candidate": candidate, "recipe": candidate, "brier": 0.02, "seconds": 0.1}


def select(settings: Settings, run: Run, dataset: str) -> dict[str, Any]:
    _call("select", run, dataset=dataset)
    return {"candidate": "logistic", "recipe": "logistic-1", "threshold": 0.4, "why": "simplest"}


def challengers(
    settings: Settings,
    run: Run,
    dataset: str,
    candidate: str,
    threshold: float,
    batches: list[str] | None = None,
) -> list[dict[str, Any]]:
    selected = {"candidate": candidate, "params": {}, "threshold": threshold, "refit": False}
    answer = _call(
        "challengers",
        run,
        dataset=dataset,
        candidate=candidate,
        threshold=threshold,
        batches=batches,
    )
    return [selected, *(answer or [])]


def export(
    settings: Settings,
    run: Run,
    dataset: str,
    candidate: str,
    threshold: float,
    validation: str,
    batches: list[str] | None = None,
    params: dict[str, Any] | None = None,
    refit: bool = False,
) -> dict[str, Any]:
    _call(
        "export",
        run,
        dataset=dataset,
        candidate=candidate,
        threshold=threshold,
        validation=validation,
        batches=batches,
        params=params,
        refit=refit,
    )
    return {"version": REFIT if refit else VERSION}


def evaluate(settings: Settings, run: Run, version: str) -> dict[str, Any]:
    _call("evaluate", run, version=version)
    return {"version": version, "champion": None, "f1": 0.97}


def decide(settings: Settings, run: Run, version: str) -> dict[str, Any]:
    return {
        "version": version,
        "passed": True,
        "kind": "first",
        "reasons": [],
        "champion": None,
        "digest": DIGEST,
    } | (_call("decide", run, version=version) or {}).get(version, {})


def choose(settings: Settings, run: Run, decisions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    _call("choose", run, decisions=decisions)
    winner = next((each for each in decisions if each["passed"]), decisions[0])
    summary = [{name: each[name] for name in ("version", "kind", "passed")} for each in decisions]
    conclusion = None
    if not winner["passed"]:
        conclusion = "tie" if all(each.get("tie") for each in decisions) else "gate_failed"
    return {**winner, "challengers": summary, "conclusion": conclusion}


def approve(
    settings: Settings,
    run: Run,
    version: str,
    digest: str,
    approved: bool,
    decided_by: str,
    reason: str = "",
    one_user: str = "",
) -> dict[str, Any]:
    _call(
        "approve",
        run,
        version=version,
        digest=digest,
        approved=approved,
        decided_by=decided_by,
        reason=reason,
        one_user=one_user,
    )
    return {"version": version, "approved": approved}


def needs_approval(settings: Settings, run: Run, version: str) -> dict[str, Any]:
    answer = _scenario().get("answers", {}).get("needs_approval")
    return answer or {"needed": run.requires_approval}


def promote(
    settings: Settings,
    run: Run,
    version: str,
    actor: str = "pipeline",
    reason: str = "",
) -> dict[str, Any]:
    answer = _call("promote", run, version=version)
    return answer or {"version": version, "generation": 1, "changed": True}


def record(settings: Settings, run: Run) -> dict[str, Any]:
    return _call("record", run) or {"mirrored": 1, "failed": 0}


def batch_score(
    settings: Settings, run: Run, source: str | None = None, engine: str = "local"
) -> dict[str, Any]:
    return _call("batch_score", run, source=source, engine=engine) or {
        "output": "scores/2026-01-04",
        "version": VERSION,
        "read": 9,
        "scored": 8,
        "rejected": 1,
    }
