"""Commands that score files with the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bc_pipeline import steps
from bc_pipeline.cli import output
from bc_pipeline.cli.caller import load_settings, new_run
from bc_pipeline.cli.options import AsJson, AsOf, Force, ProblemName
from bc_pipeline.cli.output_file import OutputFile, keep, output_file
from bc_pipeline.errors import RowsRejected, counted
from bc_pipeline.problems import DEFAULT_PROBLEM
from bc_pipeline.tables.file_names import printable_name
from bc_pipeline.tables.input_file import input_file


def score(
    source: Annotated[Path, typer.Argument(metavar="IN", help="CSV or Parquet; no labels needed.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write, or a pipe or device.")
    ],
    problem: ProblemName = DEFAULT_PROBLEM,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Score a file with the champion; rejected rows go to `OUT`'s neighbour `.rejected.csv`.

    OUT is replaced as a whole, after a question or with `--force`. Both may be pipes.

    Examples: `bc-pipeline score patients.csv scores.csv`,
    `zcat patients.csv.gz | bc-pipeline score /dev/stdin scores.csv --force`
    """
    from bc_pipeline.scoring.table_scoring import rejected_file_of

    settings = load_settings()
    steps.require_ready(settings, problem, champion=True)
    with output_file(
        target, force=force, ask=not as_json, side=rejected_file_of, source=source
    ) as out:
        with (
            output.progress(f"scoring {printable_name(source.name)}", quiet=as_json) as update,
            input_file(source, "IN") as regular,
        ):
            try:
                result = steps.score(
                    settings,
                    problem,
                    regular,
                    out.path,
                    lambda rows, done, size: update(
                        counted(rows, "row"), done / size if size else None
                    ),
                )
            except RowsRejected as error:
                error.rejected_file = _kept(out, error.rejected_file)
                raise
        if result["rejected_file"]:
            result["rejected_file"] = _kept(out, result["rejected_file"])
    shown = {name: value for name, value in result.items() if name != "validations"} | {
        "validated": f"{counted(result['scored'], 'row')}, passed",
        "report": [
            steps.validation_report(settings, problem, validation)
            for validation in result["validations"]
        ],
    }
    output.show(
        result,
        output.fields("Scores", shown),
        as_json=as_json,
        to_stderr=out.is_standard_output,
    )


def _kept(out: OutputFile, rejected_file: str) -> str:
    """Keep and name the rejected rows of scores that were copied to a pipe or device."""
    if not out.copied:
        return rejected_file
    retained = keep(out.path.with_name(rejected_file))
    output.say(f"The rejected rows are in {retained}.")
    return retained


def batch_score(
    source: Annotated[
        str, typer.Argument(help="File, folder, pattern or URL. Default: the worklist.")
    ] = "",
    engine: Annotated[
        str, typer.Option(metavar="auto|local|spark", help="This machine, or a Spark cluster.")
    ] = "auto",
    as_of: AsOf = "",
    problem: ProblemName = DEFAULT_PROBLEM,
    as_json: AsJson = False,
) -> None:
    """Score files with the champion into a folder of the volume, as the DAG does.

    Example: `bc-pipeline batch-score 's3://bucket/patients/*.parquet' --engine spark`
    """
    settings, run = load_settings(), new_run(problem, as_of)
    steps.require_ready(settings, problem, champion=True)
    with output.progress(f"scoring {source or 'the worklist'}", quiet=as_json):
        result = steps.batch_score(settings, run, source or None, engine)
    output.report("Scores", result, as_json=as_json)
