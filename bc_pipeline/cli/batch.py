"""Commands for batches: list, show, accept, withdraw, restore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bc_pipeline import steps
from bc_pipeline.cli import output
from bc_pipeline.cli.caller import actor, load_settings
from bc_pipeline.cli.completion import complete_batch
from bc_pipeline.cli.options import AsJson, ProblemName
from bc_pipeline.problems import DEFAULT_PROBLEM

if TYPE_CHECKING:
    from bc_pipeline.data.batch_history import Decision

app = typer.Typer(help="The batches of accepted rows, and the decisions about them.")

_BECAUSE = "quarantined_because_of_it"
Batch = Annotated[
    str,
    typer.Argument(
        help="A batch, as `ingest` and `batch list` name it.",
        autocompletion=complete_batch,
    ),
]
Reason = Annotated[
    str,
    typer.Option("--reason", metavar="TEXT", help="Why, for the audit log; no data of patients."),
]


@app.command("list")
def list_(problem: ProblemName = DEFAULT_PROBLEM, as_json: AsJson = False) -> None:
    """List the batches by time of arrival, and whether they count.

    Example: `bc-pipeline batch list`
    """
    batches = steps.list_batches(load_settings(), problem)
    columns = ("batch", "source", "arrived_at", "accepted", "quarantined", "state", "since")
    rows = [[batch[column] for column in columns] for batch in batches]
    output.show(batches, output.table("Batches", columns, rows), as_json=as_json)


@app.command("show")
def show(batch: Batch, problem: ProblemName = DEFAULT_PROBLEM, as_json: AsJson = False) -> None:
    """Show a batch, what was decided about it, and which versions were trained on it.

    Example: `bc-pipeline batch show 3f2a9c1b7d5e8a40`
    """
    _show("Batch", steps.show_batch(load_settings(), problem, batch), as_json=as_json)


@app.command("accept")
def accept(
    batch: Batch, reason: Reason, problem: ProblemName = DEFAULT_PROBLEM, as_json: AsJson = False
) -> None:
    """Let the rows of a held batch count from now on: they differ, and are right.

    Refused where batches that landed meanwhile contradict its rows.

    Example: `bc-pipeline batch accept 3f2a9c1b7d5e8a40 --reason "all from screening"`
    """
    _decide("accepted", "Is not held", problem, batch, reason, as_json=as_json)


@app.command("withdraw")
def withdraw(
    batch: Batch, reason: Reason, problem: ProblemName = DEFAULT_PROBLEM, as_json: AsJson = False
) -> None:
    """Let a batch's rows not count from now on; earlier snapshots stay what they were.

    Its landed file does not bring it back. Rows that were quarantined because they contradict it
    can land again, in a file of their own.

    Example: `bc-pipeline batch withdraw 3f2a9c1b7d5e8a40 --reason "labels of another clinic"`
    """
    _decide("withdrawn", "Was withdrawn before", problem, batch, reason, as_json=as_json)


@app.command("restore")
def restore(
    batch: Batch, reason: Reason, problem: ProblemName = DEFAULT_PROBLEM, as_json: AsJson = False
) -> None:
    """Let the rows of a withdrawn batch count again from now on.

    Refused where batches that landed meanwhile contradict its rows.

    Example: `bc-pipeline batch restore 3f2a9c1b7d5e8a40 --reason "labels were right"`
    """
    _decide("restored", "Is not withdrawn", problem, batch, reason, as_json=as_json)


def _decide(
    decision: Decision, unchanged: str, problem: str, batch: str, reason: str, *, as_json: bool
) -> None:
    result = steps.decide_batch(
        load_settings(), problem, batch, decision, actor=actor(), reason=reason
    )
    _show(decision.capitalize() if result["changed"] else unchanged, result, as_json=as_json)


def _show(title: str, result: dict[str, Any], *, as_json: bool) -> None:
    decisions = result["decisions"]
    columns = ("event", "at", "actor", "reason")
    shown = result | {name: _counted(result[name]) for name in ("reasons", _BECAUSE)}
    listed = ("decisions", "findings")
    tables = [output.fields(title, {k: v for k, v in shown.items() if k not in listed})]
    if result["findings"]:
        findings = [
            [one["test"], one["feature"] or "", f"{one['statistic']:.3g}", f"{one['p']:.1g}"]
            for one in result["findings"]
        ]
        tables.append(output.table("Findings", ("test", "feature", "statistic", "p"), findings))
    if decisions:
        rows = [[decision[column] for column in columns] for decision in decisions]
        tables.append(output.table("Decisions", columns, rows))
    output.show(result, *tables, as_json=as_json)


def _counted(counts: dict[str, int]) -> list[str]:
    return [f"{count}: {name}" for name, count in counts.items()]
