"""Options that several commands share."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from bc_pipeline.cli import completion

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]


def require_finite(value: float) -> float:
    """Refuse ``nan`` and ``inf``, which a range lets pass."""
    if not math.isfinite(value):
        raise typer.BadParameter("It must be a finite number.")
    return value


Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
VersionOrChampion = Annotated[
    str,
    typer.Argument(
        help="A version, in full or in short; default: the champion.",
        autocompletion=completion.complete_version,
    ),
]
ProblemName = Annotated[
    str,
    typer.Option(
        "--problem",
        "-p",
        help="The prediction problem.",
        autocompletion=completion.complete_problem,
    ),
]
AsOf = Annotated[
    str,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="Use the rows that had arrived by then (ISO 8601, UTC). Default: now.",
        show_default=False,
    ),
]
