"""How commands speak: tables for people, JSON for machines, one table of exit codes."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bc_pipeline import errors

# The first class in this order that an error belongs to gives the exit code.
EXIT_CODES: tuple[tuple[type[errors.PipelineError], int, str], ...] = (
    (errors.ConfigError, 3, "a setting, an argument or the machine is not as needed"),
    (errors.DataError, 4, "the data is not fit"),
    (errors.ModelError, 5, "the model is not fit"),
    (errors.StoreError, 6, "the volume does not hold it, or does not allow it"),
    (errors.StackError, 7, "a process of the stack is not as it should be"),
    (errors.TransientError, 8, "something is away or locked: try again"),
    (errors.PipelineError, 9, "another error of the pipeline"),
)
REJECTED = 10
# Where there is no bar to look at, how long a command may say nothing.
QUIET_SECONDS = 2.0
UNHEALTHY = 11

# Where the output is no terminal its width is unknown: wide enough that no name is cut.
_PLAIN_WIDTH = 200
_out = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
_err = Console(stderr=True, soft_wrap=True)


def exit_code(error: errors.PipelineError) -> int:
    return next(code for kind, code, _ in EXIT_CODES if isinstance(error, kind))


def say(text: str) -> None:
    """Tell a person something; never on standard output, which may be JSON."""
    _err.print(escape(text), highlight=False)


def show_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, allow_nan=False, default=str))


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell_text(cell)) for cell in row))
    _out.print(table)


def show_fields(title: str, values: Mapping[str, Any]) -> None:
    """A two-column table of names and values."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    for name, value in values.items():
        table.add_row(name, escape(cell_text(value)))
    _out.print(table)


def cell_text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "\n".join(cell_text(item) for item in value) or "-"
    return str(value)


def report(title: str, result: Mapping[str, Any], *, as_json: bool) -> None:
    """Show a step's result as the caller asked."""
    if as_json:
        show_json(result)
    else:
        show_fields(title, result)


@contextmanager
def progress(text: str, *, quiet: bool) -> Iterator[Callable[[str, float | None], None]]:
    """Show a bar on standard error while the block runs, or a line now and then.

    Yields
    ------
    callable
        ``update(text, share)`` with the share done, or None where it is not known.
    """
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=_err,
        transient=True,
        disable=quiet or not _err.is_terminal,
    )
    alone = not quiet and not _err.is_terminal
    with bar:
        task = bar.add_task(escape(text), total=None)

        told, said = time.monotonic(), text

        def update(description: str, share: float | None) -> None:
            nonlocal told, said
            if alone and description != said and time.monotonic() - told >= QUIET_SECONDS:
                say(description)
                told, said = time.monotonic(), description
            total = None if share is None else 1.0
            bar.update(task, description=escape(description), total=total, completed=share or 0)

        if alone:
            say(text)
        yield update


@contextmanager
def errors_as_exit_codes(*, as_json: bool) -> Iterator[None]:
    """Turn an error into one clear message and its exit code."""
    try:
        yield
    except errors.PipelineError as error:
        if as_json:
            show_json({"error": error.to_dict()})
        _err.print(f"[bold red]{escape(error.code)}[/]: {escape(str(error))}", highlight=False)
        raise typer.Exit(exit_code(error)) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        _err.print(
            f"[bold red]volume[/]: {escape(str(error))}. Free space, or point BC_HOME at a "
            "folder that you can write.",
            highlight=False,
        )
        raise typer.Exit(exit_code(errors.ConfigError(""))) from None
