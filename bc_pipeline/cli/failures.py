"""How a command ends that fails: one line, the same as JSON, and a documented exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from bc_pipeline import errors
from bc_pipeline.cli import output

USAGE = 2
DECLINED = 12
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
CLOSED_PIPE = 128 + signal.SIGPIPE

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
_SYSTEM, _INTERNAL = 3, 9
_ROOM = "Free space, or point BC_HOME at a folder you can write."
_ACCESS = "Give your user access to it, or point BC_HOME at a folder you can read and write."
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: _ROOM,
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EIO: "Check the disk, or the server that it is mounted from.",
}
_AGAIN_SECONDS = 1.0
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Failure:
    """Why a command failed.

    Attributes
    ----------
    code : str
        A word for programs; that of the error, where it is one of ours.
    fields : dict
        What the error is about, as plain JSON values.
    """

    code: str
    exit_code: int
    message: str
    remedy: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        shown = {"code": self.code, "message": self.message, "remedy": self.remedy}
        return {"error": shown | {"exit_code": self.exit_code, "fields": self.fields}}


class SystemFailure(Exception):
    """An error of the operating system, which Typer would treat as one of standard output."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Terminated(BaseException):
    """SIGTERM arrived."""


def exit_code(error: errors.PipelineError) -> int:
    return next(code for kind, code, _ in EXIT_CODES if isinstance(error, kind))


def run_to_exit_code(command: Callable[[], Any], *, as_json: bool, verbose: bool = False) -> int:
    """Run a command, show its failure if it fails, and return its exit code.

    Parameters
    ----------
    command : callable
        Returns an exit code, or None for 0.
    verbose : bool
        Whether the traceback of a fault of this program is shown.
    """
    try:
        with _raise_on_sigterm():
            output.require_open()
            result = command()
            output.flush()
    except output.ReaderGone:
        # As `head` does when it has enough: a message would reach nobody.
        output.silence()
        return CLOSED_PIPE
    except SystemExit as error:
        # Typer's and rich's own output ends so.
        if isinstance(error.__context__, BrokenPipeError):
            output.silence()
            return CLOSED_PIPE
        raise
    except (Exception, KeyboardInterrupt, _Terminated) as error:
        if verbose and not isinstance(error, typer.TyperException | errors.PipelineError):
            output.say(traceback.format_exc().rstrip())
        return _show(_describe(error), as_json=as_json)
    if result == INTERRUPTED:
        return _show(_describe(KeyboardInterrupt()), as_json=as_json)
    return result if isinstance(result, int) else 0


def _show(failure: Failure, *, as_json: bool) -> int:
    text = f"{failure.message} {failure.remedy}".rstrip()
    with suppress(output.OutputFailed, output.ReaderGone):
        if as_json and failure.code != "output":
            output.show_json(failure.to_json())
            output.flush()
    output.say_error(failure.code, text)
    output.silence()
    return failure.exit_code


def _describe(error: BaseException) -> Failure:
    if isinstance(error, errors.PipelineError):
        content = error.to_dict()
        for name in ("code", "message", "remedy"):
            del content[name]
        # The text has the defects too, which are fields.
        text = str(error).removesuffix(error.remedy).rstrip() if error.remedy else str(error)
        return Failure(error.code, exit_code(error), text, error.remedy, content)
    if isinstance(error, output.OutputFailed):
        return Failure("output", _SYSTEM, str(error))
    if isinstance(error, typer.TyperException):
        return _describe_usage(error)
    if isinstance(error, output.Declined):
        return Failure(
            "declined",
            DECLINED,
            "Nothing was done: the question was not answered with yes.",
            "Give --yes where nobody can answer.",
        )
    if isinstance(error, KeyboardInterrupt):
        return Failure("interrupted", INTERRUPTED, "The command was interrupted.")
    if isinstance(error, _Terminated):
        return Failure("terminated", TERMINATED, "The command was terminated.")
    if isinstance(error, SystemFailure):
        return _describe_system(error.error)
    return _describe_fault(error)


def _describe_usage(error: typer.TyperException) -> Failure:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "bc-pipeline"
    parameter = getattr(error, "param", None)
    named = {"parameter": parameter.opts[0]} if parameter else {}
    return Failure(
        "usage",
        USAGE,
        f"{error.format_message().rstrip('.?')}.",
        f"See `{path} --help`.",
        {"command": path} | named,
    )


def _describe_system(error: OSError) -> Failure:
    name = errno.errorcode.get(error.errno or 0, "")
    text = error.strerror or str(error) or type(error).__name__
    path = error.filename if isinstance(error.filename, str) else None
    remedy = _REMEDIES.get(error.errno or 0, "")
    code = "volume" if remedy else "system"
    remedy = remedy or ("Name another file or folder." if path else "")
    message = f"{output.shorten(path)}: {text}." if path else f"{text}."
    return Failure(code, _SYSTEM, message, remedy, {"errno": name, "path": path})


def _describe_fault(error: BaseException) -> Failure:
    """A fault of this program: its place, but not its text, which may have a patient's values."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    position = ""
    if ours:
        position = f"{Path(ours[-1].filename).relative_to(_PACKAGE.parent)}:{ours[-1].lineno}"
    return Failure(
        "internal",
        _INTERNAL,
        f"{type(error).__name__} at {position or 'an unknown place'}: a fault of this program.",
        "`bc-pipeline --verbose COMMAND` shows its traceback; please report it.",
        {"type": type(error).__name__, "place": position},
    )


@contextmanager
def _raise_on_sigterm() -> Iterator[None]:
    """Let SIGTERM remove unfinished files, as an interrupt does.

    Python drops an exception that a handler raises in `__del__` or in the callback of a weak
    reference, such as imports have. So it is raised again until it is on its way.
    """

    def end(_: int, __: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        if not _is_ending():
            raise _Terminated

    former = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in former.items():
            signal.signal(number, handler)


def _is_ending() -> bool:
    """Whether the blocks that clean up after SIGTERM run already."""
    error = sys.exception()
    while error is not None and not isinstance(error, _Terminated):
        error = error.__context__
    return error is not None


def open_closed_streams() -> None:
    """Open what the caller closed: otherwise the next file would be standard output.

    Reading gives nothing, writing standard output fails, messages are lost.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
