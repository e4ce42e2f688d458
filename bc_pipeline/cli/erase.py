"""Commands that remove: one person's rows, and what is old."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bc_pipeline import steps
from bc_pipeline.cli import output
from bc_pipeline.cli.caller import actor, load_settings
from bc_pipeline.cli.options import AsJson, ProblemName
from bc_pipeline.errors import ConfigError, counted
from bc_pipeline.problems import DEFAULT_PROBLEM
from bc_pipeline.tables.input_file import input_file

if TYPE_CHECKING:
    from bc_pipeline.stack.prune import Entry

_COUNTS = ("quarantined", "scores", "predictions", "candidates", "bridging")
_STDIN = "-"


def erase(
    sample_id: Annotated[
        str,
        typer.Option("--id", metavar="ID", help="Id of the person's rows, or - to read it."),
    ] = "",
    values: Annotated[
        Path | None,
        typer.Option("--values", metavar="FILE", help="Table of the person's values, or -."),
    ] = None,
    reason: Annotated[
        str,
        typer.Option("--reason", metavar="TEXT", help="Why, for ever; no data of patients."),
    ] = "",
    problem: ProblemName = DEFAULT_PROBLEM,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be erased; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
    list_notes: Annotated[bool, typer.Option("--list", help="List the erasures so far.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase one person's rows, also those at another precision, from all that is derived.

    From batches, datasets, quarantine, scores, the prediction log and outcomes. Landed files and
    the worklist are yours: exit code 11 says that files named here still hold the rows, or could
    not be searched. Backups of before hold them too.

    Examples: `bc-pipeline erase --id 842302 --reason "request of 3 May" --dry-run`,
    `bc-pipeline erase --list`
    """
    if list_notes:
        _list(steps.erasures(load_settings(), problem), as_json=as_json)
        return
    if bool(sample_id) == (values is not None):
        raise ConfigError(
            "Give --id ID or --values FILE, one of the two, to name the person.", setting="--id"
        )
    if as_json and not (yes or dry_run):
        raise ConfigError("With --json nothing asks: give --yes or --dry-run.", setting="--yes")
    if sample_id == _STDIN:
        sample_id = sys.stdin.readline().strip()
    source = Path("/dev/stdin") if values == Path(_STDIN) else values
    with input_file(source, "--values") if source else nullcontext() as sample_file:
        request: dict[str, Any] = {
            "sample_id": sample_id or None,
            "sample_file": sample_file,
            "reason": reason,
            "actor": actor(),
        }
        result = _erase(problem, request, dry_run=dry_run, yes=yes, quiet=as_json)
    _report(result, dry_run=dry_run, as_json=as_json)


def _report(result: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    """Show what was erased; exit code 11 where rows are left elsewhere."""
    if not as_json and _is_empty(result):
        output.say(
            "Nothing of this person was found: no row, score, quarantined row, prediction or "
            "outcome. Check the id as files spell it, or give the values (--values)."
        )
    else:
        _show("Would be erased" if dry_run else "Erased", result, as_json=as_json)
    if not dry_run:
        _say_what_is_left(result)
        if result["landed_files"] or result["worklist_files"] or result["not_searched"]:
            raise typer.Exit(output.UNHEALTHY)


def _erase(
    problem: str, request: dict[str, Any], *, dry_run: bool, yes: bool, quiet: bool
) -> dict[str, Any]:
    """Search, and erase what was found after a question."""
    settings = load_settings()
    if not dry_run:
        steps.require_ready(settings, problem)
    with output.progress("searching", quiet=quiet):
        matches = steps.erase(settings, problem, **request, dry_run=True)
    if dry_run or (_is_empty(matches) and not yes and not quiet):
        return matches
    if not yes:
        _show("To be erased", matches, as_json=False)
        output.confirm("Erase this for ever?")
    with output.progress("erasing", quiet=quiet):
        return steps.erase(settings, problem, **request)


def _is_empty(result: dict[str, Any]) -> bool:
    """Whether nothing was found, on the volume or in the user's files."""
    lists = ("rows", "landed_files", "worklist_files", "not_searched")
    return not any(result[name] for name in (*lists, *_COUNTS))


def _show(title: str, result: dict[str, Any], *, as_json: bool) -> None:
    fields = {"erasure": result["erasure"]} | {name: result[name] for name in _COUNTS}
    fields |= {"trained on them": result["versions"]}
    rows = [(one["path"], one["erased"], one["left"]) for one in result["rows"]]
    files = [
        (folder, file["source"], ", ".join(map(str, file["lines"])))
        for folder, name in (("landing", "landed_files"), ("worklist", "worklist_files"))
        for file in result[name]
    ]
    output.show(
        result,
        output.fields(title, fields),
        output.table("Rows", ("file", "erased", "left"), rows),
        output.table("Your files, which stay", ("folder", "file", "lines"), files),
        as_json=as_json,
    )


def _say_what_is_left(result: dict[str, Any]) -> None:
    if result["landed_files"] or result["worklist_files"]:
        output.say("Remove these lines from your files. Unchanged files do not bring them back.")
    if result["not_searched"]:
        output.say(f"Could not be searched: {', '.join(result['not_searched'])}.")
    if result["erasure"]:
        output.say(
            "Backups of before hold the rows still. Repeat this after a restore of one of them."
        )
        if result["versions"]:
            output.say(
                "Versions that were trained on the rows stay, and cannot be reproduced any more. "
                "The next retraining is without them."
            )


def _list(notes: list[dict[str, Any]], *, as_json: bool) -> None:
    columns = ("erasure", "at", "actor", "reason", "state", "predictions", "versions")
    rows = [[note[column] for column in columns] for note in notes]
    output.show(notes, output.table("Erasures", columns, rows), as_json=as_json)


def prune(
    problem: ProblemName = DEFAULT_PROBLEM,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old versions, datasets, results, scores and validations that nothing needs.

    By `BC_RETAIN_DAYS` and `BC_RETAIN_VERSIONS`. Never what is in production or staging, can be
    rolled back to, or is the anchor, nor what these were made of.

    Example: `bc-pipeline prune --dry-run`
    """
    from bc_pipeline.stack.prune import prune as run
    from bc_pipeline.workspace import open_workspace

    settings, caller = load_settings(), actor()
    open_workspace(settings, problem)
    if as_json and not (yes or dry_run):
        raise ConfigError("With --json nothing asks: give --yes or --dry-run.", setting="--yes")
    if not dry_run:
        steps.require_ready(settings, problem)
    entries = run(settings, problem, actor=caller, dry_run=True)
    goes = sum(entry.pruned for entry in entries)
    if goes and not dry_run:
        if not yes:
            output.show(None, _pruning("To be pruned", entries), as_json=False)
            output.confirm(f"Remove the {counted(goes, 'entry', 'entries')} that go, for ever?")
        entries = run(settings, problem, actor=caller)
    title = "Would be pruned" if dry_run else "Pruned"
    freed = sum(entry.bytes for entry in entries if entry.pruned)
    result = {"freed_bytes": freed, "entries": [asdict(entry) for entry in entries]}
    output.show(result, _pruning(f"{title}: {counted(freed, 'byte')}", entries), as_json=as_json)
    if not goes and not as_json:
        output.say("Nothing goes: all of it is needed or within BC_RETAIN_DAYS.")


def _pruning(title: str, entries: list[Entry]) -> output.Table:
    columns = ("kind", "name", "goes", "why", "bytes")
    rows = [(one.kind, one.name, one.pruned, one.why, one.bytes) for one in entries]
    return output.table(title, columns, rows)


def register(app: typer.Typer) -> None:
    for command in (erase, prune):
        app.command(rich_help_panel="Operations")(command)
