"""Commands for the anchor: the version that bounds the loss of a chain of refreshes."""

from __future__ import annotations

from typing import Annotated

import typer

from bc_pipeline import steps
from bc_pipeline.cli import output
from bc_pipeline.cli.caller import actor, load_settings
from bc_pipeline.cli.completion import complete_version
from bc_pipeline.cli.options import AsJson, ProblemName
from bc_pipeline.problems import DEFAULT_PROBLEM

app = typer.Typer(help="The fixed version that every challenger is compared with, too.")


@app.command("show")
def show(problem: ProblemName = DEFAULT_PROBLEM, as_json: AsJson = False) -> None:
    """Show which version is the anchor, since when, and who set it why.

    Example: `bc-pipeline anchor show`
    """
    output.report("Anchor", steps.anchor(load_settings(), problem), as_json=as_json)


@app.command("set")
def set_(
    version: Annotated[
        str,
        typer.Argument(
            help="A version that is or was in production, in full or in short.",
            autocompletion=complete_version,
        ),
    ],
    reason: Annotated[
        str,
        typer.Option("--reason", metavar="TEXT", help="Why, for the audit log."),
    ],
    problem: ProblemName = DEFAULT_PROBLEM,
    as_json: AsJson = False,
) -> None:
    """Make another version the anchor: what was lost up to it is accepted.

    Example: `bc-pipeline anchor set 20260601T000000Z-logistic-3f2a9c1b7d --reason "new clinic"`
    """
    settings = load_settings()
    version = steps.resolve_version(settings, problem, version)
    result = steps.set_anchor(settings, problem, version, actor=actor(), reason=reason)
    output.report("Anchor", result, as_json=as_json)
