"""Commands for the audit log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bc_pipeline import steps
from bc_pipeline.cli import output
from bc_pipeline.cli.caller import load_settings
from bc_pipeline.cli.completion import complete_version
from bc_pipeline.cli.options import AsJson, ProblemName
from bc_pipeline.errors import ConfigError
from bc_pipeline.problems import DEFAULT_PROBLEM
from bc_pipeline.tables.input_file import input_file

app = typer.Typer(help="The signed log of every verdict, approval, promotion and rollback.")
# A tip is about 400 bytes.
_TIP_LIMIT = 1 << 16


@app.command("list")
def list_(
    version: Annotated[
        str,
        typer.Argument(
            help="Only what concerns this version, named in full or in short.",
            autocompletion=complete_version,
        ),
    ] = "",
    problem: ProblemName = DEFAULT_PROBLEM,
    as_json: AsJson = False,
) -> None:
    """List verdicts, approvals, releases and the rest, the latest first: when, who and why.

    Examples: `bc-pipeline audit list`, `bc-pipeline audit list 2826c50`
    """
    settings = load_settings()
    version = version and steps.resolve_version(settings, problem, version)
    lines = steps.audit_lines(settings, problem, version)
    output.show(lines, audit_table("Audit log", lines), as_json=as_json)


@app.command("verify")
def verify(
    tip: Annotated[
        str,
        typer.Option(
            "--tip",
            metavar="FILE",
            help="A tip that `audit tip` showed earlier: finds a log that was cut off or written "
            "anew since. '-' reads standard input.",
        ),
    ] = "",
    problem: ProblemName = DEFAULT_PROBLEM,
    as_json: AsJson = False,
) -> None:
    """Check the audit log line by line: chain, signatures and times; and that the registry agrees.

    Examples: `bc-pipeline audit verify`, `bc-pipeline audit verify --tip tip-2026-11.json`
    """
    known = read_tip(tip) if tip else None
    result = steps.audit(load_settings(), problem, known)
    output.report("Audit log is intact", result, as_json=as_json)


@app.command("tip")
def tip_(problem: ProblemName = DEFAULT_PROBLEM, as_json: AsJson = False) -> None:
    """Check the audit log, and show its last line's number, time, digest and signature.

    Store it where nobody who can write the volume can change it; `audit verify --tip` compares
    it later. The answer is one line of JSON, with or without --json.

    Example: `bc-pipeline audit tip > tip-2026-11.json`
    """
    output.show_line(steps.audit_tip(load_settings(), problem))


def audit_table(title: str, lines: list[dict[str, Any]]) -> output.Table:
    """Lines of the audit log as a table."""
    columns = ("at", "event", "version", "actor", "reason")
    return output.table(title, columns, [[line[column] for column in columns] for line in lines])


def read_tip(name: str) -> bytes:
    """The bytes of a tip's file, or of standard input for '-'.

    Raises
    ------
    ConfigError
    """
    try:
        if name == "-":
            return sys.stdin.buffer.read(_TIP_LIMIT)
        with input_file(Path(name), "tip") as file, file.open("rb") as stream:
            return stream.read(_TIP_LIMIT)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}.", setting="tip") from None
