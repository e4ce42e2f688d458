"""Commands for backfills, rollbacks, the registry and verdicts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bc_pipeline import steps
from bc_pipeline.cli import audit, key_rotation, keys, output, releases
from bc_pipeline.cli.caller import load_settings
from bc_pipeline.cli.options import AsJson, ProblemName, VersionOrChampion
from bc_pipeline.clock import checked_time, parse_time
from bc_pipeline.errors import counted
from bc_pipeline.problems import DEFAULT_PROBLEM

if TYPE_CHECKING:
    from bc_pipeline.settings import Settings
    from bc_pipeline.stack.backfill import BackfilledRun


def backfill(
    start: Annotated[
        str, typer.Option("--from", metavar="DATE", help="First day, such as 2026-01-04.")
    ],
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="Last day, included.")],
    problem: ProblemName = DEFAULT_PROBLEM,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Run weeks again that were backfilled before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Retrain past weeks through Airflow; each leaves a verdict, the champion stays.

    A week starts on a Sunday. A paused DAG runs during the backfill, and is paused again.

    Example: `bc-pipeline backfill --from 2026-09-13 --to 2026-09-26`
    """
    from bc_pipeline.stack.backfill import run_backfill
    from bc_pipeline.stack.components import airflow_url
    from bc_pipeline.stack.state import with_running_ports

    settings = with_running_ports(load_settings())
    first, last = checked_time(start, "--from"), checked_time(end, "--to")
    arrived = steps.first_arrival(settings, problem)
    with output.progress("backfill", quiet=as_json) as update:
        runs = run_backfill(
            settings,
            f"{problem}_retrain",
            first,
            last + timedelta(days=1) - timedelta(seconds=1),
            data_since=parse_time(arrived) if arrived else None,
            rerun=rerun,
            progress=lambda done, total: update(
                f"{done} of {counted(total, 'week')}", done / total if total else None
            ),
            notify=output.say,
        )
    versions = [run.version for run in runs if run.version]
    verdicts = {version: steps.verdict(settings, problem, version) for version in versions}
    states = {run.run_id: run.state for run in runs}
    result = {"runs": states, "verdicts": list(verdicts.values())}
    output.show(result, _backfill_table(runs, verdicts), as_json=as_json)
    for run in runs:
        if run.state != "success":
            output.say(
                f"{run.run_id} ended as {run.state}. Its tasks and their logs: "
                f"{airflow_url(settings)}/dags/{problem}_retrain/runs/{run.run_id} "
                "The same command runs such weeks again."
            )
    if not runs or any(run.state != "success" for run in runs):
        raise typer.Exit(output.UNHEALTHY)


def _backfill_table(runs: list[BackfilledRun], verdicts: dict[str, dict[str, Any]]) -> output.Table:
    rows = []
    for run in runs:
        run_verdict = verdicts.get(run.version or "", {})
        rows.append(
            [
                run.run_id,
                run.state,
                str(run_verdict.get("as_of", "-"))[:10],
                *(run_verdict.get(key) for key in ("model", "f1", "kind", "passed")),
                "; ".join(run_verdict.get("reasons", [])),
            ]
        )
    columns = ("run", "state", "as of", "model", "F1", "kind", "passed", "why not")
    return output.table("Verdicts (the champion has not moved)", columns, rows)


def registry(
    problem: ProblemName = DEFAULT_PROBLEM,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Make an edited or lost registry again from the audit log."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which versions the aliases name, and every published version.

    Examples: `bc-pipeline registry --json`, `bc-pipeline registry --repair`
    """
    settings = load_settings()
    if repair:
        _repair(settings, problem)
    result = steps.registry(settings, problem)
    output.show(result, *_registry_tables(settings, problem, result), as_json=as_json)


def _registry_tables(
    settings: Settings, problem: str, result: dict[str, Any]
) -> tuple[output.Table, output.Table]:
    pointers, short = result["registry"], steps.short_names(settings, problem)
    aliases = {name: pointers[name] or {} for name in ("production", "staging", "previous")}
    keys = ("model", "f1", "as_of", "promoted_at")
    rows = [
        [alias, short.get(entry.get("version", "")), *(entry.get(key) for key in keys)]
        for alias, entry in aliases.items()
    ]
    named = {entry.get("version"): alias for alias, entry in aliases.items()}
    versions = [[short[name], name, named.get(name)] for name in result["versions"]]
    return (
        output.table(
            f"Registry of {problem}, generation {pointers['generation']}",
            ("alias", "version", "model", "F1", "as of", "promoted at"),
            rows,
        ),
        output.table("Versions", ("short", "version", "alias"), versions),
    )


def _repair(settings: Settings, problem: str) -> None:
    from bc_pipeline.stack.repair import repair

    done = repair(settings, problem)
    output.say(
        f"The registry of {problem} was made again from its audit log."
        if done["repaired"]
        else f"The registry of {problem} is signed and agrees with its audit log."
    )
    if done["removed"]:
        output.say(f"{done['removed']} had no valid signature and was removed.")


def _format_dag(dag: dict[str, Any] | None) -> str | None:
    if dag is None:
        return None
    bundle = (
        f"{dag['bundle']} at {dag['bundle_version']}" if dag["bundle_version"] else dag["bundle"]
    )
    return f"{dag['dag_id']} from {bundle}, sources {dag['sha256'][:12]}"


def verdict(
    version: VersionOrChampion = "",
    problem: ProblemName = DEFAULT_PROBLEM,
    as_json: AsJson = False,
) -> None:
    """Show why a version was allowed to be the champion, or why not: every check.

    Example: `bc-pipeline verdict`
    """
    settings = load_settings()
    version = version and steps.resolve_version(settings, problem, version)
    result = steps.verdict(settings, problem, version or None)
    names = (
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
    shown = {name: result[name] for name in names} | {"dag": _format_dag(result["dag"])}
    blocking = [check for check in result["checks"] if check["blocking"]]
    failed = {check["name"] for check in blocking if not check["passed"]}
    if failed == {"recipe_gain"}:
        shown["passed"] = "no, a tie: the champion stays"
    fields = output.fields("Verdict", shown)
    figures = _figures_table(result["evaluation"])
    checks = output.table(
        "Checks",
        ("passed", "champion", "challenger", "bound", "rule"),
        [
            [
                c["passed"] if c["blocking"] else f"{output.cell_text(c['passed'])} (advisory)",
                c["champion"],
                c["challenger"],
                c["bound"],
                f"{c['rule']} ({c['note']})" if c["note"] else c["rule"],
            ]
            for c in result["checks"]
        ],
    )
    decisions = audit.audit_table("Decisions", result["decisions"])
    tables = (fields, decisions) if result["decisions"] else (fields,)
    output.show(result, *tables, figures, checks, as_json=as_json)


def _figures_table(parts: list[dict[str, Any]]) -> output.Table:
    """Metrics by the rows they come from; net benefit beside that of calling all rows, or none."""
    from bc_pipeline.artifacts.evaluated_rows import ROWS_TITLES

    names = dict.fromkeys(name for part in parts for name in part["metrics"])
    lines = [[name, *(part["metrics"].get(name) for part in parts)] for name in names]
    if parts:
        lines += [
            ["net_benefit of calling every row", *(part["treat_all"] for part in parts)],
            ["net_benefit of calling none", *(part["treat_none"] for part in parts)],
        ]
    return output.table(
        "Figures",
        ("metric", *(ROWS_TITLES[part["rows"]].lower() for part in parts)),
        lines,
    )


def register(app: typer.Typer) -> None:
    for command in (backfill, releases.rollback, registry, verdict):
        app.command(rich_help_panel="Operations")(command)
    app.add_typer(audit.app, name="audit", rich_help_panel="Operations")
    key_rotation.register(keys.app)
    app.add_typer(keys.app, name="keys", rich_help_panel="Operations")
