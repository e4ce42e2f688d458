from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bc_pipeline.log_stream import LogStream
from tests.waiting import PATIENCE

WRITE = """
import sys
from bc_pipeline.log_stream import LogStream
stream = LogStream()
for word in sys.argv[1:]:
    stream.write(word + "\\n")
    stream.flush()
print("done")
"""


def run(stderr: int | None, prefix: tuple[str, ...] = ()) -> tuple[int, str]:
    command = [*prefix, sys.executable, "-c", WRITE, "first", "second"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=PATIENCE
    )
    return done.returncode, done.stdout


def test_lines_go_to_standard_error_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    stream = LogStream()
    assert stream.write("caf\u00e9 \ud800\n") == 7
    assert capfd.readouterr().err == "caf\u00e9 \\ud800\n"


def test_a_full_disk_costs_the_lines_only(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        assert run(full.fileno()) == (0, "done\n")


def test_a_reader_that_is_gone_costs_the_lines_only() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert run(writing) == (0, "done\n")
    finally:
        os.close(writing)


def test_without_a_standard_error_nothing_is_written() -> None:
    """Its number may belong to another file by then."""
    assert run(None, ("sh", "-c", 'exec "$@" 2>&-', "sh")) == (0, "done\n")
