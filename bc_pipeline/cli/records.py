"""Commands for the prediction log and its database: status, export, purge, migrate."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bc_pipeline import steps
from bc_pipeline.cli import output
from bc_pipeline.cli.caller import load_settings, load_volume_settings, require_folder
from bc_pipeline.cli.options import AsJson, Force, ProblemName
from bc_pipeline.cli.output_file import output_file
from bc_pipeline.clock import checked_time, format_time, now
from bc_pipeline.errors import RecordsAway, counted
from bc_pipeline.problems import DEFAULT_PROBLEM

if TYPE_CHECKING:
    from bc_pipeline.settings import Settings

records_app = typer.Typer(help="Answered predictions and their outcomes.")


@records_app.command("status")
def records_status(as_json: AsJson = False) -> None:
    """Show whether the drainer runs and the database answers, and the backlog.

    Exit code 11 unless both do. Example: `bc-pipeline records status`
    """
    from bc_pipeline.prediction_log.status import RECENT_DAYS, OutcomeCounts, RecentOutcomes

    result = _status(_load_settings())
    fields = {name: value for name, value in result.items() if not name.endswith("outcomes")}
    tables = [
        output.table(
            title,
            ("version", *kind.__struct_fields__),
            [(version, *counts.values()) for version, counts in result.get(name, {}).items()],
        )
        for name, title, kind in (
            ("outcomes", "Outcomes", OutcomeCounts),
            ("recent_outcomes", f"Recorded in the last {RECENT_DAYS} days", RecentOutcomes),
        )
    ]
    output.show(result, output.fields("Records", fields), *tables, as_json=as_json)
    if result["database"] != "ok" or not result["drainer_runs"]:
        raise typer.Exit(output.UNHEALTHY)


def _load_settings() -> Settings:
    """Settings of a command that reads the log; a mistyped folder is refused, and not made."""
    settings = load_settings()
    if settings.records_url is None and not settings.records.is_dir():
        if settings.records_dir is None:
            return load_volume_settings()
        require_folder(settings.records_dir, "BC_RECORDS_DIR")
    return settings


def _status(settings: Settings) -> dict[str, Any]:
    import msgspec

    from bc_pipeline.prediction_log import segments
    from bc_pipeline.prediction_log.database import open_database
    from bc_pipeline.prediction_log.status import read_status

    drainer_status = read_status(settings.records)
    lock = settings.records / segments.DRAIN_LOCK
    result: dict[str, Any] = {
        "folder": str(settings.records),
        "drainer_runs": lock.exists() and segments.is_locked(lock),
        "database": "ok",
        "error": "",
        "backlog_bytes": segments.backlog_bytes(segments.spool_folder(settings.records)),
    }
    with closing(open_database(settings)) as database:
        try:
            database.revision()
        except RecordsAway:
            result |= {"database": "away", "error": database.last_error}
    if drainer_status is not None:
        result |= {
            "oldest_seconds": drainer_status.oldest,
            "drained": drainer_status.drained,
            "damaged": drainer_status.damaged,
            "refused": drainer_status.refused,
            "outcomes": msgspec.to_builtins(drainer_status.outcomes),
            "recent_outcomes": msgspec.to_builtins(drainer_status.recent_outcomes),
        }
    return result


@records_app.command("export")
def records_export(
    path: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: .csv or .parquet.")],
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="From this day or time on.")
    ] = "",
    end: Annotated[
        str,
        typer.Option("--to", metavar="TIME", help="Up to this day, included, or to this time."),
    ] = "",
    with_outcomes: Annotated[
        bool, typer.Option("--with-outcomes", help="Add the current outcome of each.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the recorded predictions to a file, with features; treat it as patients' data.

    Examples: `bc-pipeline records export october.csv --from 2026-10-01 --to 2026-10-31`,
    `bc-pipeline records export all.parquet --with-outcomes`
    """
    import msgspec

    from bc_pipeline.prediction_log.export import export_predictions
    from bc_pipeline.problems import get_problem

    first = checked_time(start, "--from") if start else None
    last = checked_time(end, "--to") if end else None
    settings = _load_settings()
    problem = get_problem(settings.service_problem)
    if last is not None and len(end) == len("2026-10-31"):
        last += timedelta(days=1)
    with (
        output_file(path, force=force, ask=not as_json, suffix=".csv") as out,
        output.progress("exporting", quiet=as_json),
    ):
        done = export_predictions(
            settings,
            out.path.absolute(),
            problem.schema,
            problem.labels,
            start=first,
            end=last,
            with_outcomes=with_outcomes,
        )
    result = {"file": str(path)} | msgspec.to_builtins(done)
    output.report("Export", result, as_json=as_json, to_stderr=out.is_standard_output)


@records_app.command("land")
def records_land(
    problem: ProblemName = DEFAULT_PROBLEM,
    as_of: Annotated[
        str,
        typer.Option("--as-of", metavar="TIME", help="Outcomes recorded by then, not now."),
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Also those of withdrawn batches, with labels of now.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Land the predictions whose outcome is known, as labelled rows for the next retrain.

    Rows that a batch has are left out. Features that are encrypted in the log need its key, and are
    not encrypted in the landed file. Examples: `bc-pipeline records land`,
    `bc-pipeline records land --again` after a batch of corrected outcomes was withdrawn
    """
    moment = checked_time(as_of, "--as-of") if as_of else now()
    run = steps.Run(problem, "command", format_time(moment))
    result = steps.land_outcomes(_load_settings(), run, again=again)
    output.report("Landed outcomes", result, as_json=as_json)


@records_app.command("purge")
def records_purge(
    before: Annotated[
        str, typer.Option("--before", metavar="TIME", help="Remove predictions answered before it.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Permanently remove old predictions, their outcomes and quarantined entries.

    Example: `bc-pipeline records purge --before 2025-01-01`
    """
    from bc_pipeline.prediction_log.database import open_database
    from bc_pipeline.prediction_log.retention import (
        count_before,
        purge,
        purge_quarantine,
        quarantined_before,
    )

    moment = checked_time(before, "--before")
    settings = _load_settings()
    with closing(open_database(settings)) as database:
        database.migrate()
        if not yes:
            count = count_before(database, moment.timestamp())
            files = len(quarantined_before(settings.records, moment.timestamp()))
            if count or files:
                output.confirm(
                    f"Remove {counted(count, 'prediction')} from before {format_time(moment)}, "
                    f"with outcomes, and {counted(files, 'quarantined file')}?"
                )
        removed = purge(database, moment.timestamp())
        files = len(purge_quarantine(settings.records, moment.timestamp()))
    result = {"before": format_time(moment), "removed": removed, "set_aside_removed": files}
    output.report("Removed", result, as_json=as_json)


@records_app.command("migrate")
def records_migrate(as_json: AsJson = False) -> None:
    """Migrate the database's tables to this release; the drainer does so when it starts.

    Example: `bc-pipeline records migrate`
    """
    from bc_pipeline.prediction_log.database import open_database

    with closing(open_database(load_settings())) as database:
        database.migrate()
        result = {"database": database.engine.dialect.name, "revision": database.revision()}
    output.report("Tables", result, as_json=as_json)


def register(app: typer.Typer) -> None:
    app.add_typer(records_app, name="records", rich_help_panel="Operations")
