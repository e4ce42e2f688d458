"""The application and its groups of commands, in the order in which help shows them."""

from __future__ import annotations

import logging
import re
from typing import Annotated, Any

import structlog
import typer
from typer.core import TyperGroup

from bc_pipeline import __version__
from bc_pipeline.cli import (
    anchor,
    backup,
    batch,
    cluster,
    compose,
    erase,
    operations,
    output,
    records,
    stack,
    workflow,
)
from bc_pipeline.cli.options import AS_JSON
from bc_pipeline.cli.output import EXIT_CODES, REJECTED, UNHEALTHY
from bc_pipeline.errors import PipelineError


class _Commands(TyperGroup):
    """Refuses empty arguments, and ends a command that fails with the exit code of its error."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # A script whose variable is not set passes it: a default would hide the mistake.
        empty = [number for number, text in enumerate(args, 1) if not text]
        empty_options = [text for text in args if re.fullmatch(r"--[a-z-]+=", text)]
        if empty or empty_options:
            named = [f"argument {number}" for number in empty] + empty_options
            raise typer.BadParameter(
                f"{', '.join(named)} is empty. Is a variable of your script not set? "
                "Leave an argument out for its default."
            )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (PipelineError, OSError) as error:
            as_json = ctx.meta.get(AS_JSON, False)
            raise typer.Exit(output.report_error(error, as_json=as_json)) from None


app = typer.Typer(
    name="bc-pipeline",
    cls=_Commands,
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
        + f", {REJECTED} the gate kept the champion, {UNHEALTHY} a check failed."
    ),
)


def _show_version(requested: bool) -> None:
    if requested:
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
    """Set up logging of this process."""
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
app.add_typer(batch.app, name="batch", rich_help_panel="Operations")
app.add_typer(anchor.app, name="anchor", rich_help_panel="Operations")
records.register(app)
erase.register(app)
backup.register(app)
app.add_typer(compose.app, name="compose", rich_help_panel="Stack")
