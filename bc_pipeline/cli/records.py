"""The prediction log and its database: look, export, remove, migrate."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from bc_pipeline.cli import output
from bc_pipeline.cli.options import AsJson
from bc_pipeline.clock import format_time, parse_time
from bc_pipeline.errors import ConfigError, RecordsAway
from bc_pipeline.records.status import OutcomeCounts, read_status
from bc_pipeline.settings import Settings, load_settings

records_app = typer.Typer(help="Answered predictions and what turned out true.")


@records_app.command("status")
def records_status(as_json: AsJson = False) -> None:
    """Show whether the drainer runs and the database answers, and what waits.

    Ends with 11 unless both do. Example: `bc-pipeline records status`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        result = _status(load_settings())
        if as_json:
            output.show_json(result)
        else:
            outcomes = result.pop("outcomes", {})
            output.show_fields("Records", result)
            output.show_table(
                "Outcomes",
                ("version", *OutcomeCounts.__struct_fields__),
                [(version, *counts.values()) for version, counts in outcomes.items()],
            )
    if result["database"] != "ok" or not result["drainer_runs"]:
        raise typer.Exit(output.UNHEALTHY)


def _status(settings: Settings) -> dict[str, Any]:
    from bc_pipeline.records import segments
    from bc_pipeline.records.database import open_database

    told = read_status(settings.records)
    lock = settings.records / segments.DRAIN_LOCK
    result: dict[str, Any] = {
        "folder": str(settings.records),
        "drainer_runs": lock.exists() and segments.is_held(lock),
        "database": "ok",
        "error": "",
        "backlog_bytes": segments.backlog(segments.spool_folder(settings.records)),
    }
    database = open_database(settings)
    try:
        database.revision()
    except RecordsAway:
        result |= {"database": "away", "error": database.last_error}
    finally:
        database.close()
    if told is not None:
        result |= {
            "oldest_seconds": told.oldest,
            "drained": told.drained,
            "damaged": told.damaged,
            "refused": told.refused,
            "outcomes": msgspec.to_builtins(told.outcomes),
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
        bool, typer.Option("--with-outcomes", help="With the diagnoses that hold.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the recorded predictions to a file, with features; treat it as patients' data.

    Examples: `bc-pipeline records export october.csv --from 2026-10-01 --to 2026-10-31`,
    `bc-pipeline records export all.parquet --with-outcomes`
    """
    from bc_pipeline.problems import get_problem
    from bc_pipeline.records.database import open_database
    from bc_pipeline.records.export import export_predictions

    with output.errors_as_exit_codes(as_json=as_json):
        settings = load_settings()
        if path.exists() and not force:
            raise ConfigError(
                f"{path} is there already.", "Give another name, or --force.", setting="path"
            )
        problem = get_problem(settings.service_problem)
        last = parse_time(end) if end else None
        if last is not None and len(end) == len("2026-10-31"):
            last += timedelta(days=1)
        try:
            with output.progress("exporting", quiet=as_json):
                done = export_predictions(
                    settings,
                    path.absolute(),
                    problem.schema,
                    problem.labels,
                    start=parse_time(start) if start else None,
                    end=last,
                    with_outcomes=with_outcomes,
                )
        finally:
            open_database(settings).close()
        result = {"file": str(path)} | msgspec.to_builtins(done)
        output.report("Export", result, as_json=as_json)


@records_app.command("purge")
def records_purge(
    before: Annotated[
        str, typer.Option("--before", metavar="TIME", help="Remove what was answered before it.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old predictions and their outcomes for good, and what was set aside of them.

    Example: `bc-pipeline records purge --before 2025-01-01`
    """
    from bc_pipeline.records.database import open_database
    from bc_pipeline.records.retention import (
        count_before,
        purge,
        purge_quarantine,
        quarantined_before,
    )

    with output.errors_as_exit_codes(as_json=as_json):
        moment = parse_time(before)
        settings = load_settings()
        database = open_database(settings)
        try:
            database.migrate()
            if not yes:
                found = count_before(database, moment.timestamp())
                files = len(quarantined_before(settings.records, moment.timestamp()))
                typer.confirm(
                    f"Remove {found} predictions from before {format_time(moment)}, with their "
                    f"outcomes, and {files} files that were set aside?",
                    abort=True,
                    err=True,
                )
            removed = purge(database, moment.timestamp())
            files = len(purge_quarantine(settings.records, moment.timestamp()))
        finally:
            database.close()
        result = {"before": format_time(moment), "removed": removed, "set_aside_removed": files}
        output.report("Removed", result, as_json=as_json)


@records_app.command("migrate")
def records_migrate(as_json: AsJson = False) -> None:
    """Bring the database's tables up to this release; the drainer does so when it starts.

    Example: `bc-pipeline records migrate`
    """
    from bc_pipeline.records.database import open_database

    with output.errors_as_exit_codes(as_json=as_json):
        database = open_database(load_settings())
        try:
            database.migrate()
            result = {"database": database.engine.dialect.name, "revision": database.revision()}
        finally:
            database.close()
        output.report("Tables", result, as_json=as_json)


def register(app: typer.Typer) -> None:
    app.add_typer(records_app, name="records", rich_help_panel="Operations")
