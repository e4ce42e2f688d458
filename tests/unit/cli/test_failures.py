"""Every command in all kinds of bad surroundings: one line, an exit code, no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from bc_pipeline.artifacts.store import Store
from bc_pipeline.cli import failures
from bc_pipeline.cli.app import app
from bc_pipeline.cli.output import REJECTED, UNHEALTHY
from tests.waiting import PATIENCE

DOCUMENTED = {0, failures.USAGE, REJECTED, UNHEALTHY, failures.DECLINED, failures.CLOSED_PIPE}
DOCUMENTED |= {code for _, code, _ in failures.EXIT_CODES}
# They start processes, or wait for some that are elsewhere.
STARTING = {"up", "compose up", "compose down", "cluster init", "cluster first-cycle", "backfill"}
VALUES = {"from": "2026-01-04", "to": "2026-01-10", "before": "2026-01-01", "since": "2026-01-01"}
VALUES |= {"purpose": "records", "scope": "predict"}
DATES = {"--as-of", "--arrived-at", "--from", "--to", "--before", "--since"}


def _commands(group: Any, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        path = (*prefix, name)
        if hasattr(command, "commands"):
            found |= _commands(command, path)
        else:
            found[" ".join(path)] = command
    return found


PROGRAM = typer.main.get_command(app)
COMMANDS = _commands(PROGRAM)


def _name(parameter: Any) -> str:
    return str(parameter.opts[0].lstrip("-"))


def _types(annotation: Any) -> tuple[Any, ...]:
    """``list[str] | None`` are the types str, None and so on."""
    parts = get_args(annotation)
    return tuple(kind for part in parts for kind in _types(part)) if parts else (annotation,)


def _is_text(parameter: Any) -> bool:
    return bool({str, Path}.intersection(_types(parameter.type_descriptor.annotation)))


def _words(command: str, changed: Any = None, value: str = "") -> list[str]:
    """A call with every required parameter, and one parameter with a given value."""
    words = command.split()
    for parameter in COMMANDS[command].params:
        if parameter is changed or parameter.required:
            text = value if parameter is changed else VALUES.get(_name(parameter), "no-such")
            option = [] if parameter.param_type_name == "argument" else [parameter.opts[0]]
            words += [*option, text]
    return words


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that make files outside of the volume make them in the test's folder."""
    monkeypatch.setenv("BC_PROJECT_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def _run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        PROGRAM.main(words, "bc-pipeline")
    return int(ended.value.code or 0)


def _check(words: list[str], capsys: pytest.CaptureFixture[str]) -> int:
    code = _run([*words, "--json"])
    out, err = capsys.readouterr()
    assert code in DOCUMENTED, err
    assert "Traceback" not in out + err
    assert "internal: " not in err, err
    if code in (0, REJECTED, UNHEALTHY):
        return code
    *messages, line = err.splitlines()
    assert len(messages) <= 1, err
    error = json.loads(out)["error"]
    assert set(error) == {"code", "message", "remedy", "exit_code", "fields"}
    assert line.startswith(f"{error['code']}: ")
    assert error["exit_code"] == code
    assert error["message"]
    return code


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_there_is_not(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _check([*command.split(), "--frob"], capsys) == failures.USAGE


def _unusable(kind: str, folder: Path) -> str:
    file = folder / "a-file"
    file.write_text("no table")
    link = folder / "a-link"
    link.symlink_to(folder / "nowhere")
    loop = folder / "a-loop"
    loop.symlink_to(loop)
    return {
        "a folder": str(folder),
        "a file": str(file),
        "below a file": str(file / "x"),
        "too long": "x" * 300,
        "too deep": "/x" * 3000,
        "a dead link": str(link),
        "a loop": str(loop),
        "not UTF-8": "\udcff",
        "a zero byte": "a\0b",
        "empty": "",
        "not writable": "/proc/no-such/x",
        "a device": "/dev/full",
        "markup": "[bold]x[/]",
        "an option": "--",
    }[kind]


HOMES = ["a file", "below a file", "too long", "too deep", "a dead link", "a loop", "not UTF-8"]


@pytest.mark.parametrize("kind", [*HOMES, "not writable", "a device"])
@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"compose up", "compose down"}))
def test_a_volume_that_cannot_be_used(
    command: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BC_HOME", _unusable(kind, tmp_path))
    wait = ["--wait", "0"] if command.startswith("cluster") else []
    _check([*_words(command), *wait], capsys)


TEXTS = [
    (command, parameter)
    for command, found in COMMANDS.items()
    for parameter in found.params
    if _is_text(parameter) and command not in STARTING
]
KINDS = [*HOMES, "a folder", "a zero byte", "empty", "not writable", "a device", "markup"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("command", "parameter"), TEXTS, ids=[f"{c} {_name(p)}" for c, p in TEXTS])
def test_an_argument_that_cannot_be_used(
    command: str,
    parameter: Any,
    kind: str,
    tmp_path: Path,
    store: Store,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _check(_words(command, parameter, _unusable(kind, tmp_path)), capsys)


TIMES = [
    (command, parameter)
    for command, found in COMMANDS.items()
    for parameter in found.params
    if parameter.opts[0] in DATES
]


@pytest.mark.parametrize(
    "time",
    [
        "9999-12-31",
        "0001-01-01",
        "0000-01-01",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "10000-01-01",
        "-1",
    ],
)
@pytest.mark.parametrize(
    ("command", "parameter"), TIMES, ids=[f"{c} {p.opts[0]}" for c, p in TIMES]
)
def test_a_time_at_the_end_of_the_calendar(
    command: str, parameter: Any, time: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _check(_words(command, parameter, time), capsys) in (failures.USAGE, 3)


NUMBERS = [
    (command, parameter)
    for command, found in COMMANDS.items()
    for parameter in found.params
    if {int, float}.intersection(_types(parameter.type_descriptor.annotation))
]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400", "-1", "x"])
@pytest.mark.parametrize(
    ("command", "parameter"), NUMBERS, ids=[f"{c} {_name(p)}" for c, p in NUMBERS]
)
def test_a_number_that_is_none(
    command: str, parameter: Any, number: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _check(_words(command, parameter, number), capsys) == failures.USAGE


@contextmanager
def _standard_output(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with os.fdopen(descriptor, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield


@pytest.mark.parametrize("form", [["--json"], []])
@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - STARTING))
def test_an_output_that_is_full_or_closed(
    command: str,
    form: list[str],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for descriptor in (os.open("/dev/full", os.O_WRONLY), writing):
        with _standard_output(descriptor, monkeypatch):
            code = _run([*_words(command), *form])
        assert code in DOCUMENTED, capfd.readouterr().err
        err = capfd.readouterr().err
        assert "Traceback" not in err
        assert "internal: " not in err


def test_a_result_that_cannot_be_written_is_a_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with _standard_output(os.open("/dev/full", os.O_WRONLY), monkeypatch):
        assert _run(["registry"]) == 3
    assert "output: Standard output cannot be written: No space left" in capsys.readouterr().err
    reading, writing = os.pipe()
    os.close(reading)
    with _standard_output(writing, monkeypatch):
        assert _run(["registry"]) == failures.CLOSED_PIPE
    assert capsys.readouterr().err == ""


def _start(words: list[str], **streams: Any) -> subprocess.Popen[str]:
    program = Path(sys.executable).with_name("bc-pipeline")
    return subprocess.Popen(
        [program, *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Background processes of a shell ignore interrupts, and this child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **streams,
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    ("number", "text"), [(signal.SIGINT, "interrupted: "), (signal.SIGTERM, "terminated: ")]
)
def test_a_signal_ends_a_command_with_one_line(
    number: signal.Signals, text: str, tmp_path: Path
) -> None:
    with _start(["ingest", "/dev/stdin"], stdin=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("reading")
        process.send_signal(number)
        assert [line[: len(text)] for line in process.stderr] == [text]
    assert process.returncode == 128 + number


@pytest.mark.integration
def test_closed_streams_are_no_files_of_the_volume(store: Store) -> None:
    """Otherwise a file that the command opens would get the number of standard output."""
    program = Path(sys.executable).with_name("bc-pipeline")
    closed = subprocess.run(
        ["sh", "-c", f"{program} keys create --name a --scope read <&- >&-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert closed.returncode == 3
    assert closed.stderr == "output: Standard output is closed.\n"
    assert not (store.home / "keys/service_keys.json").exists()
    silent = subprocess.run(["sh", "-c", f"{program} verdict x 2>&-"], check=False)
    assert silent.returncode == 6


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_sigterm_where_python_drops_its_exception_ends_the_command_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(failures, "_AGAIN_SECONDS", 0.05, raising=False)
    cleaned = []

    class Dropped:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def command() -> None:
        try:
            Dropped()
            time.sleep(PATIENCE)
        finally:
            # Nothing ends this block before its end.
            time.sleep(0.3)
            cleaned.append(True)

    started = time.monotonic()
    assert failures.run_to_exit_code(command, as_json=False) == failures.TERMINATED
    assert time.monotonic() - started < PATIENCE
    assert cleaned == [True]
    assert "terminated: The command was terminated." in capfd.readouterr().err
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
