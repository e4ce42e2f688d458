"""Runs of the toy problem, without Airflow."""

from __future__ import annotations

from typing import Any

from bc_pipeline import steps
from bc_pipeline.settings import Settings
from bc_pipeline.steps import Run


def judge(run: Run) -> dict[str, Any]:
    """Every step up to the verdict."""
    steps.ingest(Settings(), run)
    validation = steps.validate(Settings(), run)["validation"]
    snapshot = steps.snapshot(Settings(), run, validation)
    dataset = snapshot["dataset"]
    for candidate in steps.candidates(run.problem):
        steps.train(Settings(), run, dataset, candidate)
    chosen = steps.select(Settings(), run, dataset)
    decisions = []
    for challenger in steps.challengers(
        Settings(), run, dataset, chosen["candidate"], chosen["threshold"]
    ):
        exported = steps.export(
            Settings(),
            run,
            dataset,
            validation=validation,
            batches=snapshot["batches"],
            **challenger,
        )
        steps.evaluate(Settings(), run, exported["version"])
        decisions.append(steps.decide(Settings(), run, exported["version"]))
    return steps.choose(Settings(), run, decisions)


def week(number: int, *, live: bool = True) -> Run:
    return Run("toy", f"run-{number}", f"2026-03-{number:02d}T00:00:00Z", live=live)
