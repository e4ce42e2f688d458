"""All steps of a run in their order, as the DAG does them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bc_pipeline import steps
from bc_pipeline.cli import output
from bc_pipeline.cli.caller import actor
from bc_pipeline.cli.releases import warn_of_mirror
from bc_pipeline.conclusion import Conclusion
from bc_pipeline.errors import NotReleasable

if TYPE_CHECKING:
    from bc_pipeline.settings import Settings
    from bc_pipeline.steps import Run


def run_all(settings: Settings, run: Run, *, anyway: bool, quiet: bool) -> dict[str, Any]:
    """From landed files to the champion; ``conclusion`` and ``reason`` say how it ended.

    Parameters
    ----------
    anyway : bool
        Whether to train although there is nothing new to train on.
    """
    with output.progress("ingesting", quiet=quiet) as update:
        ingested = steps.ingest(settings, run)
        update("validating", None)
        validation = steps.validate(settings, run)["validation"]
        snapshot = steps.snapshot(settings, run, validation)
    news = steps.find_news(settings, run, snapshot["dataset"], anyway)
    if news["new"]:
        train_candidates(settings, run, snapshot["dataset"], None, quiet=quiet)
        judged = _judge_and_promote(settings, run, snapshot["dataset"], validation, quiet=quiet)
    else:
        judged = {
            "version": None,
            "challengers": [],
            "conclusion": Conclusion.NOTHING_NEW,
            "reason": news["reason"],
        }
    with output.progress("mirroring in MLflow", quiet=quiet):
        mirrored = steps.record(settings, run)
    warn_of_mirror(mirrored)
    return {
        "batches": ingested["batches"],
        "refused": [file["file"] for file in ingested["refused"]],
        "quarantined": ingested["quarantined"],
        "notes": ingested["notes"],
        "dataset": snapshot["dataset"],
        "rows": snapshot["rows"],
        **judged,
        "promoted": judged["conclusion"] == Conclusion.PROMOTED,
        "mirrored": mirrored["mirrored"],
    }


def train_candidates(
    settings: Settings, run: Run, dataset: str, names: list[str] | None, *, quiet: bool
) -> list[dict[str, Any]]:
    """Cross-validate the named candidates, or all; the result of each."""
    names = names or steps.candidates(run.problem)
    results = []
    with output.progress("training", quiet=quiet) as update:
        for index, name in enumerate(names):
            update(f"cross-validating {name}", index / len(names))
            results.append(steps.train(settings, run, dataset, name))
    return results


def evaluate_challengers(
    settings: Settings, run: Run, dataset: str, validation: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The selection, and the evaluation of each challenger."""
    selected = steps.select(settings, run, dataset)
    challengers = steps.challengers(
        settings, run, dataset, selected["candidate"], selected["threshold"]
    )
    evaluated = []
    for challenger in challengers:
        exported = steps.export(settings, run, dataset, validation=validation, **challenger)
        evaluated.append(steps.evaluate(settings, run, exported["version"]))
    return selected, evaluated


def _judge_and_promote(
    settings: Settings, run: Run, dataset: str, validation: str, *, quiet: bool
) -> dict[str, Any]:
    with output.progress("evaluating", quiet=quiet) as update:
        selected, evaluated = evaluate_challengers(settings, run, dataset, validation)
        update("smoke test and gate", None)
        decided = [steps.decide(settings, run, each["version"]) for each in evaluated]
        verdict = steps.choose(settings, run, decided)
        concluded = (
            _promote(settings, run, verdict["version"])
            if verdict["passed"]
            else {"reason": "; ".join(verdict["reasons"])}
        )
    winner = next(each for each in evaluated if each["version"] == verdict["version"])
    return {
        "why": selected["why"],
        "f1": winner["f1"],
        "sensitivity": winner["sensitivity"],
        **verdict,
        **concluded,
    }


def _promote(settings: Settings, run: Run, version: str) -> dict[str, Any]:
    if steps.needs_approval(settings, run, version)["needed"]:
        return {
            "conclusion": Conclusion.AWAITING_APPROVAL,
            "reason": f"{version} needs an approval: another person runs `bc-pipeline approve "
            f"{version} --reason TEXT`, or decides in the DAG {run.problem}_approval.",
        }
    try:
        released = steps.promote(settings, run, version, actor=actor())
    except NotReleasable as error:
        return {"conclusion": Conclusion.NOT_RELEASABLE, "reason": str(error)}
    conclusion = Conclusion.PROMOTED if released["changed"] else Conclusion.ALREADY_RELEASED
    return {
        "conclusion": conclusion,
        "reason": f"{version}: {conclusion.text}.",
        "generation": released["generation"],
    }
