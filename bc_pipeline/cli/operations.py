"""Operations: backfill, rollback, and what a reviewer asks."""

from __future__ import annotations

from datetime import timedelta
from getpass import getuser
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bc_pipeline import steps
from bc_pipeline.cli import keys, output
from bc_pipeline.cli.options import AsJson, ProblemName
from bc_pipeline.clock import parse_time
from bc_pipeline.settings import load_settings

audit_app = typer.Typer(help="The hash-chained log of every verdict, promotion and rollback.")

if TYPE_CHECKING:
    from bc_pipeline.stack.backfill import BackfilledRun


def backfill(
    start: Annotated[
        str, typer.Option("--from", metavar="DATE", help="First day, such as 2026-01-04.")
    ],
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="Last day, included.")],
    problem: ProblemName = "wdbc",
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Run weeks again that were backfilled before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Retrain past weeks through Airflow; each leaves a verdict, the champion stays.

    A week starts on a Sunday.

    Example: `bc-pipeline backfill --from 2026-09-13 --to 2026-09-26`
    """
    from bc_pipeline.stack.backfill import run_backfill
    from bc_pipeline.stack.state import attach

    with output.errors_as_exit_codes(as_json=as_json):
        first, last = parse_time(start), parse_time(end)
        with output.progress("backfill", quiet=as_json) as update:
            runs = run_backfill(
                attach(load_settings()),
                f"{problem}_retrain",
                first,
                last + timedelta(days=1) - timedelta(seconds=1),
                rerun=rerun,
                progress=lambda done, total: update(
                    f"{done} of {total} weeks", done / total if total else None
                ),
            )
        verdicts = {run.version: steps.verdict(problem, run.version) for run in runs if run.version}
        if as_json:
            states = {run.run_id: run.state for run in runs}
            output.show_json({"runs": states, "verdicts": list(verdicts.values())})
        else:
            _show_backfill(runs, verdicts)
    if not runs or any(run.state != "success" for run in runs):
        raise typer.Exit(output.UNHEALTHY)


def _show_backfill(runs: list[BackfilledRun], verdicts: dict[str, dict[str, Any]]) -> None:
    rows = []
    for run in runs:
        found = verdicts.get(run.version or "", {})
        rows.append(
            [
                run.run_id,
                run.state,
                str(found.get("as_of", "-"))[:10],
                found.get("model"),
                found.get("f1"),
                found.get("kind"),
                found.get("passed"),
                "; ".join(found.get("reasons", [])),
            ]
        )
    columns = ("run", "state", "as of", "model", "F1", "kind", "passed", "why not")
    output.show_table("Verdicts (the champion has not moved)", columns, rows)


def rollback(
    version: Annotated[
        str, typer.Argument(help="An earlier champion; default: the one before this one.")
    ] = "",
    problem: ProblemName = "wdbc",
    as_json: AsJson = False,
) -> None:
    """Bring an earlier champion back; the service follows within two seconds.

    Examples: `bc-pipeline rollback`, `bc-pipeline rollback 20260601T000000Z-logistic-3f2a9c1b7d`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        with output.progress("rolling back, and telling MLflow", quiet=as_json):
            result = steps.rollback(problem, version or None, actor=f"cli:{getuser()}")
            mirrored = steps.mirror(problem)
        output.report("Rollback", result | {"mirrored": not mirrored["failed"]}, as_json=as_json)


def registry(problem: ProblemName = "wdbc", as_json: AsJson = False) -> None:
    """Show which versions the aliases name, and every published version.

    Example: `bc-pipeline registry --json`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        result = steps.registry(problem)
    if as_json:
        output.show_json(result)
        return
    found = result["registry"]
    rows = []
    for alias in ("production", "staging", "previous"):
        pointer = found[alias] or {}
        rows.append(
            [
                alias,
                *(pointer.get(key) for key in ("version", "model", "f1", "as_of", "promoted_at")),
            ]
        )
    output.show_table(
        f"Registry of {problem}, generation {found['generation']}",
        ("alias", "version", "model", "F1", "as of", "promoted at"),
        rows,
    )
    output.show_table("Versions", ("version",), [[name] for name in result["versions"]])


def _dag_text(dag: dict[str, Any] | None) -> str | None:
    if dag is None:
        return None
    place = (
        f"{dag['bundle']} at {dag['bundle_version']}" if dag["bundle_version"] else dag["bundle"]
    )
    return f"{dag['dag_id']} from {place}, sources {dag['sha256'][:12]}"


def verdict(
    version: Annotated[str, typer.Argument(help="A version; default: the champion.")] = "",
    problem: ProblemName = "wdbc",
    as_json: AsJson = False,
) -> None:
    """Show why a version was allowed to be the champion, or why not: every check.

    Example: `bc-pipeline verdict`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        found = steps.verdict(problem, version or None)
    if as_json:
        output.show_json(found)
        return
    shown = (
        "version",
        "model",
        "kind",
        "passed",
        "better",
        "champion",
        "as_of",
        "run_id",
        "code_version",
        "reasons",
    )
    output.show_fields(
        "Verdict", {name: found[name] for name in shown} | {"dag": _dag_text(found["dag"])}
    )
    output.show_table(
        "Checks",
        ("passed", "rule", "champion", "challenger", "bound"),
        [
            [
                c["passed"] if c["blocking"] else f"{output.cell_text(c['passed'])} (advisory)",
                f"{c['rule']} ({c['note']})" if c["note"] else c["rule"],
                c["champion"],
                c["challenger"],
                c["bound"],
            ]
            for c in found["checks"]
        ],
    )


@audit_app.command("verify")
def audit_verify(problem: ProblemName = "wdbc", as_json: AsJson = False) -> None:
    """Check the hash chain of the audit log, line by line.

    Example: `bc-pipeline audit verify`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        output.report("Audit log holds", steps.audit(problem), as_json=as_json)


def register(app: typer.Typer) -> None:
    for command in (backfill, rollback, registry, verdict):
        app.command(rich_help_panel="Operations")(command)
    app.add_typer(audit_app, name="audit", rich_help_panel="Operations")
    app.add_typer(keys.app, name="keys", rich_help_panel="Operations")
