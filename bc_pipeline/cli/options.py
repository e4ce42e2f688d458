"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]
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
