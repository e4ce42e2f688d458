from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bc_pipeline.cli.tables import Table, cell_text, fields, plain_lines, render, table
from tests.unit.commands import run_command

TIME = "2026-11-15T06:12:31Z"
WIDE = table(
    "Batches",
    ("batch", "source", "arrived_at", "accepted", "quarantined", "state", "since"),
    [
        ("3f2a9c1b7d5e8a40", "2025-11-23_week-01.csv", TIME, 338, 0, "counts", TIME),
        ("480768cf6554ae5f", "a file of a clinic with a long name.csv", TIME, 5, 10, "held", TIME),
    ],
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (0.123456, "0.1235"),
        ([], "-"),
        (["a", 1], "a\n1"),
        ("x", "x"),
        ("", "-"),
        ({}, "-"),
        ({"a": 1, "b": True}, "a: 1\nb: yes"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert cell_text(value) == text


def shown(each: Table, width: int, *, colour: bool = False) -> list[str]:
    from rich.console import Console

    console = Console(width=width, force_terminal=True, color_system="standard" if colour else None)
    with console.capture() as captured:
        console.print(render(each, width))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [80, 60, 40, 20])
def test_a_table_fits_the_terminal_with_its_names_in_one_piece(width: int) -> None:
    lines = shown(WIDE, width)
    assert max(map(len, lines)) <= width
    for name in ("3f2a9c1b7d5e8a40", "480768cf6554ae5f"):
        assert (name in "\n".join(lines)) == (width >= 40)


def test_times_of_a_terminal_have_no_seconds_and_others_do() -> None:
    assert "2026-11-15 06:12" in " ".join("\n".join(shown(WIDE, 120)).split())
    assert "06:12:31" not in "\n".join(shown(WIDE, 120))
    assert TIME in "\n".join(plain_lines(WIDE))
    assert TIME in "\n".join(shown(fields("Batch", {"arrived_at": TIME}), 80))


def test_plain_lines_have_no_padding_and_fold_nothing() -> None:
    long = "x" * 300
    lines = plain_lines(table("T", ("a", "b", "c"), [("1", long, "2"), ("3", "4", "")]))
    assert lines[0] == "T"
    assert any(long in line for line in lines)
    assert all(line == line.rstrip() for line in lines)
    assert len(lines[3]) < 60
    assert plain_lines(fields("F", {"name": ["1", "2"]})) == ["F", "name  1", "      2", ""]


def test_an_empty_table_says_so() -> None:
    assert plain_lines(table("T", ("a", "b"), []))[2] == "none"
    assert shown(table("T", ("a", "b"), []), 80)[1] == "none"


def test_markup_and_control_characters_are_text() -> None:
    assert "[bold]x[/]" in "\n".join(shown(fields("F", {"name": "[bold]x[/]"}), 80))


def test_verdicts_have_colours() -> None:
    verdict = fields("Verdict", {"passed": "no, a tie: the champion stays", "state": "held"})
    checks = table(
        "Checks", ("passed", "rule"), [(True, "a"), (False, "b"), ("no (advisory)", "c")]
    )
    lines = "\n".join(shown(verdict, 80, colour=True) + shown(checks, 80, colour=True))
    assert re.search("\x1b\\[32myes", lines)
    assert re.search("\x1b\\[31mno", lines)
    assert re.search("\x1b\\[33mno, a tie", lines)


def on_terminal(words: list[str], **environment: str) -> str:
    """What a command writes to a terminal of 80 columns."""
    program = str(Path(sys.executable).with_name("bc-pipeline"))
    inherited = {name: value for name, value in os.environ.items() if "COLOR" not in name}
    own, its = pty.openpty()
    written = b""
    with subprocess.Popen(
        [program, *words],
        stdin=its,
        stdout=its,
        stderr=its,
        env=inherited | {"TERM": "xterm-256color", "COLUMNS": "80"} | environment,
    ):
        os.close(its)
        try:
            while part := os.read(own, 4096):
                written += part
        except OSError:
            pass
    os.close(own)
    return written.decode()


@pytest.mark.integration
def test_colours_are_for_terminals(tmp_path: Path) -> None:
    coloured = on_terminal(["doctor"])
    assert "\x1b[" in coloured
    assert all(
        len(re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", line)) <= 80 for line in coloured.split("\r\n")
    )
    assert "\x1b[" not in on_terminal(["doctor"], NO_COLOR="1")
    json.loads(on_terminal(["doctor", "--json"], FORCE_COLOR="1"))


def test_a_pipe_has_no_colours_unless_they_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in run_command("doctor", code=11).output
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run_command("doctor", code=11).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run_command("doctor", code=11).output
