"""Output of commands: tables for people, JSON for machines, and exit codes."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bc_pipeline import errors

# The first class in this order that an error belongs to gives the exit code.
EXIT_CODES: tuple[tuple[type[errors.PipelineError], int, str], ...] = (
    (errors.ConfigError, 3, "a setting, an argument or the machine does not fit"),
    (errors.DataError, 4, "the data cannot be used"),
    (errors.ModelError, 5, "the model cannot be used"),
    (errors.StoreError, 6, "the volume lacks it or does not allow it"),
    (errors.StackError, 7, "a process of the stack does not work"),
    (errors.TransientError, 8, "a service is unavailable or a lock is held: try again"),
    (errors.PipelineError, 9, "another error of the pipeline"),
)
_FULL_OR_READ_ONLY = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES})
_UNUSABLE_PATH = frozenset(
    {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EILSEQ}
)
REJECTED = 10
UNHEALTHY = 11
# Without a progress bar, a line is printed at most this often.
_LINE_SECONDS = 2.0

# Width where the output is not a terminal; names are not cut at it.
_PLAIN_WIDTH = 200
_out = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
_err = Console(stderr=True, soft_wrap=True)


def exit_code(error: errors.PipelineError) -> int:
    return next(code for kind, code, _ in EXIT_CODES if isinstance(error, kind))


def escape(text: str) -> str:
    """Text that the console prints as it is: names of files may have what cannot be encoded."""
    return escape_markup(text.encode("utf-8", "backslashreplace").decode())


def say(text: str) -> None:
    """Print a message on standard error; standard output may be JSON."""
    _err.print(escape(text), highlight=False)


def show_json(value: Any, *, to_stderr: bool = False) -> None:
    typer.echo(json.dumps(value, indent=2, allow_nan=False, default=str), err=to_stderr)


def show_line(value: Any) -> None:
    """Show a result as one line of JSON."""
    typer.echo(json.dumps(value, allow_nan=False))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table with a header; long cells are folded."""
    made = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(escape(cell_text(cell)) for cell in row))
    return made


def fields(title: str, values: Mapping[str, Any]) -> Table:
    """A two-column table of names and values."""
    made = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    for name, value in values.items():
        made.add_row(name, escape(cell_text(value)))
    return made


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


def show(result: Any, *tables: Table, as_json: bool, to_stderr: bool = False) -> None:
    """Show a result as JSON, or the tables that describe it to people.

    Parameters
    ----------
    to_stderr : bool
        Whether it goes to standard error, because standard output holds something else.
    """
    if as_json:
        show_json(result, to_stderr=to_stderr)
    else:
        (_err if to_stderr else _out).print(*tables)


def report(
    title: str, result: Mapping[str, Any], *, as_json: bool, to_stderr: bool = False
) -> None:
    """Show a result as JSON or as a table of its fields; `to_stderr` as of `show`."""
    show(result, fields(title, result), as_json=as_json, to_stderr=to_stderr)


@contextmanager
def progress(text: str, *, quiet: bool) -> Iterator[Callable[[str, float | None], None]]:
    """Show a progress bar on standard error, or print lines where that is not a terminal.

    Yields
    ------
    callable
        ``update(text, share)``; the share of the work that is done is None where it is unknown.
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
    lines = not quiet and not _err.is_terminal
    with bar:
        task = bar.add_task(escape(text), total=None)

        printed_at, printed = time.monotonic(), text

        def update(description: str, share: float | None) -> None:
            nonlocal printed_at, printed
            due = time.monotonic() - printed_at >= _LINE_SECONDS
            if lines and due and description != printed:
                say(description)
                printed_at, printed = time.monotonic(), description
            total = None if share is None else 1.0
            bar.update(task, description=escape(description), total=total, completed=share or 0)

        if lines:
            say(text)
        yield update


def report_error(error: errors.PipelineError | OSError, *, as_json: bool) -> int:
    """Show an error with its remedy, and return its exit code.

    Raises
    ------
    OSError
        Where it is not about a volume that is full or cannot be written, or about a path.
    """
    if isinstance(error, OSError):
        if error.errno in _FULL_OR_READ_ONLY:
            remedy = "Free space, or point BC_HOME at a folder you can write."
        elif error.errno in _UNUSABLE_PATH:
            remedy = "Name another file or folder."
        else:
            raise error
        code, text = "volume", f"{error}. {remedy}"
        error = errors.ConfigError("")
    else:
        code, text = error.code, str(error)
        if as_json:
            show_json({"error": error.to_dict()})
    _err.print(f"[bold red]{escape(code)}[/]: {escape(text)}", highlight=False)
    return exit_code(error)
