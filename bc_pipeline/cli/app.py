"""The application and its groups of commands, in the order in which help shows them."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Annotated, Any

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
    records,
    stack,
    workflow,
)
from bc_pipeline.cli.failures import (
    CLOSED_PIPE,
    DECLINED,
    EXIT_CODES,
    INTERRUPTED,
    TERMINATED,
    USAGE,
    SystemFailure,
    run_to_exit_code,
)
from bc_pipeline.cli.output import REJECTED, UNHEALTHY
from bc_pipeline.conclusion import Conclusion
from bc_pipeline.errors import ConfigError


class _Commands(TyperGroup):
    """Refuses arguments that no command can use; every failure gets its line and exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        run = partial(super().main, words, prog_name, complete_var, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        verbose = bool({"--verbose", "-v"}.intersection(words[:1]))
        sys.exit(run_to_exit_code(run, as_json="--json" in words, verbose=verbose))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        if not args:
            ctx.get_help()
            raise typer.Exit(USAGE)
        _require_text(args)
        _require_content(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            raise SystemFailure(error) from error


def _require_content(args: list[str]) -> None:
    """Refuse empty arguments: a variable of a script is not set, and no default may replace it."""
    empty = [
        args[number - 1]
        if number and args[number - 1].startswith("--")
        else f"argument {number + 1}"
        for number, text in enumerate(args)
        if not text
    ]
    empty += [text for text in args if re.fullmatch(r"--[a-z-]+=", text)]
    if empty:
        raise typer.BadParameter(
            f"{', '.join(empty)} is empty. Is a variable of your script not set? "
            "Leave an argument out for its default."
        )


def _require_text(args: list[str]) -> None:
    """Refuse what neither a message nor a file of the volume could hold."""
    wrong = [str(number) for number, text in enumerate(args, 1) if not _is_text(text)]
    if wrong:
        raise ConfigError(
            f"Argument {', '.join(wrong)} is not UTF-8, or has a zero byte.",
            "Rename such a file.",
            setting=f"argument {wrong[0]}",
        )


def _is_text(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


app = typer.Typer(
    name="bc-pipeline",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Train, evaluate, gate, promote and score models for cancer classification. "
        "Decision support for research, not a medical device."
    ),
    epilog=(
        "Exit codes: 0 done, 2 wrong usage, "
        + ", ".join(f"{code} {meaning}" for _, code, meaning in EXIT_CODES)
        + f", {REJECTED} the gate kept the champion, {UNHEALTHY} a check failed, "
        f"{Conclusion.NOTHING_NEW.exit_code} nothing new to train on, "
        f"{Conclusion.AWAITING_APPROVAL.exit_code} the version needs an approval, "
        f"{DECLINED} a question was not answered with yes, {INTERRUPTED} interrupted, "
        f"{CLOSED_PIPE} the reader of the output ended, {TERMINATED} terminated."
    ),
)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(__version__)
        raise typer.Exit


def _import_structlog() -> Any:
    """Import structlog without Rich, for whose tracebacks it takes .1 s, on every command."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return import_module("structlog")
    # An entry that is None makes an import fail as if the library were not installed.
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        return import_module("structlog")
    finally:
        del sys.modules["rich"]


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
    structlog = _import_structlog()
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
