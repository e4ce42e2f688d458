"""The application: its commands, in the order in which a newcomer meets them."""

from __future__ import annotations

import logging
from typing import Annotated

import structlog
import typer

from bc_pipeline import __version__
from bc_pipeline.cli import backup, cluster, compose, operations, records, stack, workflow
from bc_pipeline.cli.output import EXIT_CODES, REJECTED, UNHEALTHY

app = typer.Typer(
    name="bc-pipeline",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Train, evaluate, gate, promote and score a breast cancer classifier. "
        "Decision support for research, not a medical device."
    ),
    epilog=(
        "Exit codes: 0 done, 2 wrong usage, "
        + ", ".join(f"{code} {meaning}" for _, code, meaning in EXIT_CODES)
        + f", {REJECTED} the gate kept the champion, {UNHEALTHY} something is not well."
    ),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def configure(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log each step on standard error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Set logging up, for this process only."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.INFO if verbose else logging.WARNING
        ),
        logger_factory=structlog.PrintLoggerFactory(file=typer.get_text_stream("stderr")),
    )


stack.register(app)
cluster.register(app)
workflow.register(app)
operations.register(app)
records.register(app)
backup.register(app)
app.add_typer(compose.app, name="compose", rich_help_panel="Stack")
