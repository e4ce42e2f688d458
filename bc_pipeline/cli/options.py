"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

# Key of the value in the context of a command, so that errors are shown as JSON too.
AS_JSON = "bc_pipeline.as_json"


def _keep(context: typer.Context, value: bool) -> bool:
    context.meta[AS_JSON] = value
    return value


AsJson = Annotated[
    bool, typer.Option("--json", callback=_keep, help="Answer in JSON, for machines.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
ProblemName = Annotated[str, typer.Option("--problem", "-p", help="The prediction problem.")]
AsOf = Annotated[
    str,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="Use the rows that had arrived by then (ISO 8601, UTC). Default: now.",
        show_default=False,
    ),
]
