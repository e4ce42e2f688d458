"""The workflow's steps without Airflow."""

from __future__ import annotations

from getpass import getuser
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from bc_pipeline import steps
from bc_pipeline.cli import output
from bc_pipeline.cli.options import AsJson, AsOf, ProblemName
from bc_pipeline.clock import format_time, now, parse_time
from bc_pipeline.settings import load_settings
from bc_pipeline.steps import Run

Version = Annotated[str, typer.Argument(help="A model version, as `evaluate` names it.")]
DatasetName = Annotated[
    str, typer.Option("--dataset", "-d", help="A dataset, as `snapshot` names it.")
]


def _actor() -> str:
    return f"cli:{getuser()}"


def _run(problem: str, as_of: str = "") -> Run:
    moment = parse_time(as_of) if as_of else now()
    return Run(problem=problem, run_id=f"cli__{uuid4().hex[:12]}", as_of=format_time(moment))


def ingest(
    file: Annotated[Path, typer.Argument(help="Labelled rows, CSV or Parquet, in any dialect.")],
    problem: ProblemName = "wdbc",
    arrived_at: Annotated[
        str,
        typer.Option(metavar="TIME", help="When it arrived. Default: its modification time."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Take a file in as a batch; bad rows go to quarantine with line, column and reason.

    Example: `bc-pipeline ingest march.csv --json`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        moment = parse_time(arrived_at) if arrived_at else None
        with output.progress(f"reading {file.name}", quiet=as_json):
            batch = steps.ingest_one(problem, file, moment)
        problems = [
            {"line": p.line, "column": p.column, "reason": p.reason} for p in batch.problems
        ]
        result = {
            "batch": batch.batch,
            "read": batch.read,
            "accepted": batch.accepted,
            "quarantined": batch.quarantined,
            "arrived_at": batch.arrived_at,
            "dialect": batch.dialect,
        }
        if as_json:
            output.show_json(result | {"problems": problems})
            return
        output.show_fields("Batch", result)
        if problems:
            output.say(f"All of them: {steps.quarantine_file(problem, batch.batch)}")
            rows = [[p["line"], p["column"], p["reason"]] for p in problems]
            output.show_table("Quarantined", ("line", "column", "reason"), rows)


def validate(problem: ProblemName = "wdbc", as_of: AsOf = "", as_json: AsJson = False) -> None:
    """Hold the rows as of a time against the problem's expectation suite.

    Example: `bc-pipeline validate --as-of 2026-06-01`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        with output.progress("validating", quiet=as_json):
            result = steps.validate(_run(problem, as_of))
        result |= {"passed": True, "report": str(load_settings().home / result["report"])}
        output.report("Validation", result, as_json=as_json)


def snapshot(problem: ProblemName = "wdbc", as_of: AsOf = "", as_json: AsJson = False) -> None:
    """Freeze the rows that had arrived by a time into a dataset, named by its digest.

    Example: `bc-pipeline snapshot --as-of 2026-06-01 --json`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        with output.progress("collecting rows", quiet=as_json):
            result = steps.snapshot(_run(problem, as_of), validation="")
        result.pop("validation")
        output.report("Dataset", result, as_json=as_json)


def train(
    dataset: DatasetName,
    candidate: Annotated[
        list[str] | None, typer.Option(help="Only this candidate; may be repeated.")
    ] = None,
    problem: ProblemName = "wdbc",
    as_json: AsJson = False,
) -> None:
    """Cross-validate the candidates on the dataset's train rows.

    Example: `bc-pipeline train --dataset 3f2a9c1b7d5e8a40 --candidate logistic`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        results = _train(_run(problem), dataset, candidate, quiet=as_json)
        if as_json:
            output.show_json(results)
        else:
            output.show_table(
                "Cross-validation on the train rows",
                tuple(results[0]),
                [list(result.values()) for result in results],
            )


def _train(run: Run, dataset: str, names: list[str] | None, *, quiet: bool) -> list[dict[str, Any]]:
    names = names or steps.candidates(run)
    results = []
    with output.progress("training", quiet=quiet) as update:
        for index, name in enumerate(names):
            update(f"cross-validating {name}", index / len(names))
            results.append(steps.train(run, dataset, name))
    return results


def evaluate(
    dataset: DatasetName,
    problem: ProblemName = "wdbc",
    as_of: AsOf = "",
    as_json: AsJson = False,
) -> None:
    """Select a challenger, export it, and score it with the champion on the holdout.

    The as-of time is that of the snapshot: its rows pass the expectation suite first.

    Example: `bc-pipeline evaluate --dataset 3f2a9c1b7d5e8a40 --as-of 2026-06-01`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        run = _run(problem, as_of)
        with output.progress("evaluating", quiet=as_json):
            validation = steps.validate(run)["validation"]
            result = _evaluate(run, dataset, validation)
        output.report("Challenger", result, as_json=as_json)


def _evaluate(run: Run, dataset: str, validation: str) -> dict[str, Any]:
    chosen = steps.select(run, dataset)
    exported = steps.export(run, dataset, chosen["candidate"], chosen["threshold"], validation)
    return chosen | steps.evaluate(run, exported["version"])


def decide(version: Version, problem: ProblemName = "wdbc", as_json: AsJson = False) -> None:
    """Ask the gate about an evaluated challenger, and publish it with its verdict.

    Example: `bc-pipeline decide 20260601T000000Z-logistic-3f2a9c1b7d`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        with output.progress("smoke test and gate", quiet=as_json):
            result = steps.decide(_run(problem), version)
        output.report("Verdict", result, as_json=as_json)


def promote(
    version: Version,
    approved_by: Annotated[str, typer.Option(help="Who approved it, for the audit log.")] = "",
    problem: ProblemName = "wdbc",
    as_json: AsJson = False,
) -> None:
    """Make a version that passed its gate the champion.

    Example: `bc-pipeline promote 20260601T000000Z-logistic-3f2a9c1b7d`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        result = steps.promote(_run(problem), version, approved_by or None, actor=_actor())
        output.report("Promotion", result, as_json=as_json)


def score(
    source: Annotated[Path, typer.Argument(metavar="IN", help="CSV or Parquet; no labels needed.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Written as a whole, or not.")],
    problem: ProblemName = "wdbc",
    as_json: AsJson = False,
) -> None:
    """Score a file with the champion; rejected rows go to a side file.

    Example: `bc-pipeline score patients.csv scores.csv`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        with output.progress(f"scoring {source.name}", quiet=as_json) as update:
            result = steps.score(
                problem,
                source,
                target,
                lambda rows, done, size: update(f"{rows} rows", done / size if size else None),
            )
        output.report("Scores", result, as_json=as_json)


def batch_score(
    source: Annotated[
        str, typer.Argument(help="File, folder, pattern or URL. Default: the worklist.")
    ] = "",
    engine: Annotated[
        str, typer.Option(metavar="auto|local|spark", help="This machine, or a Spark cluster.")
    ] = "auto",
    as_of: AsOf = "",
    problem: ProblemName = "wdbc",
    as_json: AsJson = False,
) -> None:
    """Score files with the champion into a folder of the volume, as the DAG does.

    Example: `bc-pipeline batch-score 's3://bucket/patients/*.parquet' --engine spark`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        with output.progress(f"scoring {source or 'the worklist'}", quiet=as_json):
            result = steps.batch_score(_run(problem, as_of), source or None, engine)
        output.report("Scores", result, as_json=as_json)


def run(
    problem: ProblemName = "wdbc",
    as_of: AsOf = "",
    demo: Annotated[bool, typer.Option("--demo", help="Land the demo feed first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ingest, validate, snapshot, train, evaluate, decide, promote and record.

    Exit code 10 where the gate keeps the champion.

    Examples: `bc-pipeline run`, `bc-pipeline run --demo --as-of 2026-06-01 --json`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        this = _run(problem, as_of)
        if demo:
            steps.land_demo(problem)
        result = _run_all(this, quiet=as_json)
        output.report("Run", result, as_json=as_json)
    if not result["passed"]:
        raise typer.Exit(output.REJECTED)


def _run_all(this: Run, *, quiet: bool) -> dict[str, Any]:
    with output.progress("ingesting", quiet=quiet) as update:
        taken = steps.ingest(this)
        update("validating", None)
        validation = steps.validate(this)["validation"]
        frozen = steps.snapshot(this, validation)
    _train(this, frozen["dataset"], None, quiet=quiet)
    with output.progress("evaluating", quiet=quiet) as update:
        challenger = _evaluate(this, frozen["dataset"], validation)
        update("smoke test and gate", None)
        verdict = steps.decide(this, challenger["version"])
        promotion: dict[str, Any] = {"changed": False}
        if verdict["passed"]:
            promotion = steps.promote(this, challenger["version"], actor=_actor())
        update("mirroring in MLflow", None)
        mirrored = steps.record(this)
    return {
        "batches": taken["batches"],
        "dataset": frozen["dataset"],
        "rows": frozen["rows"],
        "why": challenger["why"],
        "f1": challenger["f1"],
        "sensitivity": challenger["sensitivity"],
        **verdict,
        "promoted": promotion["changed"],
        "mirrored": mirrored["mirrored"],
    }


def verify_repro(
    version: Annotated[
        str, typer.Argument(help="A published version; default: the champion.")
    ] = "",
    problem: ProblemName = "wdbc",
    as_json: AsJson = False,
) -> None:
    """Make a version again from its inputs: the same name, and predictions within 1e-12.

    Example: `bc-pipeline verify-repro`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        with output.progress("fitting again", quiet=as_json):
            result = steps.verify_repro(problem, version or None)
        output.report("Reproduction", result, as_json=as_json)


def register(app: typer.Typer) -> None:
    for command in (
        ingest,
        validate,
        snapshot,
        train,
        evaluate,
        decide,
        promote,
        score,
        batch_score,
        run,
    ):
        app.command(rich_help_panel="Workflow")(command)
    app.command("verify-repro", rich_help_panel="Workflow")(verify_repro)
