"""Commands for the steps of the workflow, without Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bc_pipeline import steps
from bc_pipeline.cli import output, releases, scores
from bc_pipeline.cli.caller import load_settings, new_run
from bc_pipeline.cli.completion import complete_dataset, complete_version
from bc_pipeline.cli.options import AsJson, AsOf, ProblemName, VersionOrChampion
from bc_pipeline.cli.whole_run import evaluate_challengers, run_all, train_candidates
from bc_pipeline.clock import checked_time
from bc_pipeline.conclusion import Conclusion
from bc_pipeline.problems import DEFAULT_PROBLEM
from bc_pipeline.tables.file_names import printable_name
from bc_pipeline.tables.input_file import input_file

Version = Annotated[
    str,
    typer.Argument(
        help="A model version, as `evaluate` names it, in full or in short.",
        autocompletion=complete_version,
    ),
]
DatasetName = Annotated[
    str,
    typer.Option(
        "--dataset",
        "-d",
        help="A dataset, as `snapshot` names it.",
        autocompletion=complete_dataset,
    ),
]


def ingest(
    file: Annotated[Path, typer.Argument(help="Labelled rows, CSV or Parquet, in any dialect.")],
    problem: ProblemName = DEFAULT_PROBLEM,
    arrived_at: Annotated[
        str,
        typer.Option(metavar="TIME", help="When it arrived. Default: its modification time."),
    ] = "",
    label_codes: Annotated[
        str,
        typer.Option(
            metavar="CODES",
            help="What label codes mean, as code=label for each label, separated by commas. "
            "Default: FILE.labels.json, or as the class profile shows.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Ingest a file as a batch; bad rows go to quarantine with line, column and reason.

    Example: `bc-pipeline ingest march.csv --json`
    """
    settings = load_settings()
    moment = checked_time(arrived_at, "--arrived-at") if arrived_at else None
    name = printable_name(file.name)
    steps.require_ready(settings, problem, first=True)
    with output.progress(f"reading {name}", quiet=as_json), input_file(file) as regular:
        result = steps.ingest_one(settings, problem, regular, moment, label_codes or None)
    defects = result.pop("problems")
    tables = [output.fields("Batch", result)]
    if defects:
        rows = [list(defect.values()) for defect in defects]
        tables.append(output.table("Quarantined", tuple(defects[0]), rows))
    output.show(result | {"problems": defects}, *tables, as_json=as_json)
    if defects and not as_json:
        output.say(f"All of them: {steps.quarantine_file(settings, problem, result['batch'])}")


def validate(
    problem: ProblemName = DEFAULT_PROBLEM, as_of: AsOf = "", as_json: AsJson = False
) -> None:
    """Validate the rows as of a time with the problem's expectation suite.

    Example: `bc-pipeline validate --as-of 2026-06-01`
    """
    settings, run = load_settings(), new_run(problem, as_of)
    steps.require_ready(settings, problem)
    with output.progress("validating", quiet=as_json):
        result = steps.validate(settings, run)
    result |= {"passed": True, "report": str(settings.home / result["report"])}
    output.report("Validation", result, as_json=as_json)


def snapshot(
    problem: ProblemName = DEFAULT_PROBLEM, as_of: AsOf = "", as_json: AsJson = False
) -> None:
    """Freeze the rows that had arrived by a time into a dataset, named by its digest.

    Example: `bc-pipeline snapshot --as-of 2026-06-01 --json`
    """
    settings, run = load_settings(), new_run(problem, as_of)
    steps.require_ready(settings, problem)
    with output.progress("collecting rows", quiet=as_json):
        result = steps.snapshot(settings, run, validation="")
    del result["validation"], result["batches"]
    output.report("Dataset", result, as_json=as_json)


def train(
    dataset: DatasetName,
    candidate: Annotated[
        list[str] | None, typer.Option(help="Only this candidate; may be repeated.")
    ] = None,
    problem: ProblemName = DEFAULT_PROBLEM,
    as_json: AsJson = False,
) -> None:
    """Cross-validate the candidates on the dataset's train rows.

    Example: `bc-pipeline train --dataset 3f2a9c1b7d5e8a40 --candidate logistic`
    """
    settings = load_settings()
    steps.require_ready(settings, problem, dataset=dataset)
    results = train_candidates(settings, new_run(problem), dataset, candidate, quiet=as_json)
    rows = [list(result.values()) for result in results]
    table = output.table("Cross-validation on the train rows", tuple(results[0]), rows)
    output.show(results, table, as_json=as_json)


def evaluate(
    dataset: DatasetName,
    problem: ProblemName = DEFAULT_PROBLEM,
    as_of: AsOf = "",
    as_json: AsJson = False,
) -> None:
    """Select a candidate, export it, and score it with the champion on the holdout.

    Where the champion's recipe is another, it is fitted again as a second challenger.

    The as-of time is that of the snapshot: its rows pass the expectation suite first.

    Example: `bc-pipeline evaluate --dataset 3f2a9c1b7d5e8a40 --as-of 2026-06-01`
    """
    settings, run = load_settings(), new_run(problem, as_of)
    steps.require_ready(settings, problem, dataset=dataset)
    with output.progress("evaluating", quiet=as_json):
        validation = steps.validate(settings, run)["validation"]
        selected, evaluated = evaluate_challengers(settings, run, dataset, validation)
    rows = [list(result.values()) for result in evaluated]
    output.show(
        selected | evaluated[0] | {"challengers": evaluated},
        output.fields("Selected", selected),
        output.table("Challengers", tuple(evaluated[0]), rows),
        as_json=as_json,
    )


def decide(
    version: Version, problem: ProblemName = DEFAULT_PROBLEM, as_json: AsJson = False
) -> None:
    """Run the gate on an evaluated challenger, and publish it with its verdict.

    Example: `bc-pipeline decide 20260601T000000Z-logistic-3f2a9c1b7d`
    """
    settings = load_settings()
    version = steps.resolve_version(settings, problem, version)
    steps.require_ready(settings, problem)
    with output.progress("smoke test and gate", quiet=as_json):
        result = steps.decide(settings, new_run(problem), version)
    output.report("Verdict", result, as_json=as_json)


def run(
    problem: ProblemName = DEFAULT_PROBLEM,
    as_of: AsOf = "",
    demo: Annotated[bool, typer.Option("--demo", help="Land the demo feed first.")] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Train although there is nothing new to train on.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ingest, validate, snapshot, train, evaluate, decide, promote and record, as the DAG does.

    Exit code 10 where the gate keeps the champion, 13 where there is nothing new to train on, 14
    where the version needs an approval.

    Examples: `bc-pipeline run`, `bc-pipeline run --demo --as-of 2026-06-01 --json`
    """
    settings, this = load_settings(), new_run(problem, as_of)
    steps.require_ready(settings, problem, first=True)
    if demo:
        steps.land_demo(settings, problem)
    result = run_all(settings, this, anyway=anyway, quiet=as_json)
    if result["promoted"]:
        result |= releases.announce(settings, problem, result)
    judged = [list(each.values()) for each in result["challengers"]]
    shown = {name: value for name, value in result.items() if name != "challengers"}
    tables = [output.fields("Run", shown)]
    if judged:
        tables.append(output.table("Challengers", ("version", "kind", "passed"), judged))
    output.show(result, *tables, as_json=as_json)
    for note in result["notes"]:
        output.say(f"Not taken by ingest: {note}")
    if code := Conclusion(result["conclusion"]).exit_code:
        raise typer.Exit(code)


def verify_repro(
    version: VersionOrChampion = "",
    problem: ProblemName = DEFAULT_PROBLEM,
    as_json: AsJson = False,
) -> None:
    """Reproduce a version from its inputs, and compare its name and predictions (1e-12).

    Example: `bc-pipeline verify-repro`
    """
    with output.progress("fitting again", quiet=as_json):
        settings = load_settings()
        version = version and steps.resolve_version(settings, problem, version)
        result = steps.verify_repro(settings, problem, version or None)
    output.report("Reproduction", result, as_json=as_json)


def register(app: typer.Typer) -> None:
    for command in (
        ingest,
        validate,
        snapshot,
        train,
        evaluate,
        decide,
        releases.promote,
        releases.approve,
        scores.score,
        scores.batch_score,
        run,
    ):
        app.command(rich_help_panel="Workflow")(command)
    app.command("verify-repro", rich_help_panel="Workflow")(verify_repro)
