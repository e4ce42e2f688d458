"""Output of commands: tables and messages for people, JSON for machines."""

from __future__ import annotations

import fcntl
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from bc_pipeline.cli.tables import Table, cell_text, fields, plain_lines, render, table
from bc_pipeline.conclusion import Conclusion

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Table", "cell_text", "fields", "table"]

REJECTED = Conclusion.GATE_FAILED.exit_code
UNHEALTHY = 11
# Without a progress bar, a line is printed at most this often.
_LINE_SECONDS = 2.0
_SHOWN = 200


class OutputFailed(Exception):
    """Standard output cannot be written."""


class ReaderGone(Exception):
    """Standard output or error is a pipe that nobody reads any more."""


class Declined(Exception):
    """A question was not answered with yes."""


def console(*, stderr: bool = False) -> Console:
    """A console that has colours on a terminal, or by FORCE_COLOR, and not with NO_COLOR."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> NoReturn:
            raise ReaderGone

    plain = bool(os.environ.get("NO_COLOR"))
    return Piped(stderr=stderr, soft_wrap=stderr, color_system=None if plain else "auto")


def printable(text: str) -> str:
    """Text in one encoding: names of files may have what cannot be encoded."""
    return text.encode("utf-8", "backslashreplace").decode()


def shorten(text: str) -> str:
    """The text, without its middle where a message would have nothing else."""
    if len(text) <= _SHOWN:
        return text
    return f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"


def say(text: str) -> None:
    """Print a message on standard error; standard output may be JSON."""
    _write(printable(text), stderr=True)


def say_error(code: str, text: str) -> None:
    """Print an error as one line."""
    from rich.text import Text

    line = Text(printable(" ".join(text.split())))
    try:
        console(stderr=True).print(Text(f"{code}: ", "bold red") + line, soft_wrap=True)
    except (OSError, ReaderGone):
        return


def show_json(value: Any, *, to_stderr: bool = False) -> None:
    _write(json.dumps(value, indent=2, allow_nan=False, default=str), stderr=to_stderr)


def show_line(value: Any) -> None:
    """Show a result as one line of JSON."""
    _write(json.dumps(value, allow_nan=False))


def show_text(text: str) -> None:
    """Show a result that is text, such as a key, alone on standard output."""
    _write(text)


def _write(text: str, *, stderr: bool = False) -> None:
    try:
        typer.echo(text, err=stderr)
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        if not stderr:
            raise OutputFailed(f"Standard output cannot be written: {error.strerror}.") from None


def flush() -> None:
    """Write what is buffered, so that a full disk is found before the command ends.

    Raises
    ------
    OutputFailed, ReaderGone
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise OutputFailed(f"Standard output cannot be written: {error.strerror}.") from None


def require_open() -> None:
    """Refuse to start where the caller closed standard output: the result would be lost.

    Raises
    ------
    OutputFailed
    """
    try:
        flags = fcntl.fcntl(sys.stdout.fileno(), fcntl.F_GETFL)
    except (OSError, ValueError):
        return
    if flags & os.O_ACCMODE == os.O_RDONLY:
        raise OutputFailed("Standard output is closed.")


def silence() -> None:
    """Let what is buffered for a closed or full output go nowhere when the process ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            target = os.open(os.devnull, os.O_WRONLY)
            os.dup2(target, stream.fileno())
            os.close(target)
        except (ValueError, io.UnsupportedOperation):
            continue


def confirm(question: str) -> None:
    """Ask on standard error, and return if the answer is yes.

    Raises
    ------
    Declined
        Also where nobody can answer.
    """
    try:
        if not typer.confirm(question, err=True):
            raise Declined
    except typer.Abort:
        typer.echo(err=True)
        raise Declined from None


def show(result: Any, *tables: Table, as_json: bool, to_stderr: bool = False) -> None:
    """Show a result as JSON, or the tables that describe it to people.

    Parameters
    ----------
    to_stderr : bool
        Whether it goes to standard error, because standard output holds something else.
    """
    if as_json:
        show_json(result, to_stderr=to_stderr)
        return
    stream = sys.stderr if to_stderr else sys.stdout
    out = console(stderr=to_stderr)
    for each in tables:
        if stream.isatty() or out.is_terminal:
            try:
                out.print(render(each, out.width), soft_wrap=False)
            except OSError as error:
                raise OutputFailed(
                    f"Standard output cannot be written: {error.strerror}."
                ) from None
        else:
            _write(printable("\n".join(plain_lines(each))), stderr=to_stderr)


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
    if quiet:
        yield lambda _text, _share: None
    # A terminal, whatever FORCE_COLOR says: a bar is drawn again and again.
    elif sys.stderr.isatty():
        with _progress_bar(text) as update:
            yield update
    else:
        say(text)
        yield _progress_lines(text)


@contextmanager
def _progress_bar(text: str) -> Iterator[Callable[[str, float | None], None]]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    description = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), description, BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(text), total=None)

        def update(text: str, share: float | None) -> None:
            total = None if share is None else 1.0
            bar.update(task, description=printable(text), total=total, completed=share or 0)

        yield update


def _progress_lines(text: str) -> Callable[[str, float | None], None]:
    """Prints a text that differs from the one before, and not too often."""
    printed_at, printed = time.monotonic(), text

    def update(text: str, _share: float | None) -> None:
        nonlocal printed_at, printed
        if time.monotonic() - printed_at >= _LINE_SECONDS and text != printed:
            say(text)
            printed_at, printed = time.monotonic(), text

    return update
