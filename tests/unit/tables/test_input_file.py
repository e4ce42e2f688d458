from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_pipeline.errors import ConfigError
from bc_pipeline.tables import input_file
from tests.waiting import PATIENCE

CONTENT = b"a,b\n1,2\n" * 40_000


def read(path: Path) -> bytes:
    with input_file.input_file(path) as regular:
        assert regular.name == path.name
        return regular.read_bytes()


def write_slowly(path: Path, parts: list[bytes]) -> threading.Thread:
    def write() -> None:
        with path.open("wb", buffering=0) as stream:
            for part in parts:
                stream.write(part)
                time.sleep(0.02)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_a_regular_file_is_itself_and_a_missing_one_is_left_to_its_reader(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for _ in range(2):
        with input_file.input_file(path) as regular:
            assert regular == path
        path.write_bytes(CONTENT)


def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    os.mkfifo(path)
    thread = write_slowly(path, [CONTENT[:10], CONTENT[10:]])
    assert read(path) == CONTENT
    thread.join(PATIENCE)


def test_a_pipe_of_the_shell_is_read(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    thread = write_slowly(Path(f"/dev/fd/{write_end}"), [CONTENT])
    try:
        # Its own end must be closed, or the pipe does not end.
        time.sleep(0.05)
        os.close(write_end)
        with input_file.input_file(Path(f"/dev/fd/{read_end}")) as regular:
            assert (regular.name, regular.read_bytes()) == ("pipe", CONTENT)
    finally:
        thread.join(PATIENCE)
        os.close(read_end)


def test_nothing_is_left_of_a_spooled_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = tmp_path / "rows.csv"
    os.mkfifo(path)
    thread = write_slowly(path, [CONTENT])
    assert read(path) == CONTENT
    thread.join(PATIENCE)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_pipe_without_writer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_file, "PIPE_IDLE_SECONDS", 0.1)
    path = tmp_path / "rows.csv"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"rows\.csv had no data for 0\.1 s"):
        read(path)


@pytest.mark.parametrize(
    ("name", "bound", "reason"),
    [("PIPE_BYTES", 100_000, "gave more than 100000 bytes"), ("PIPE_SECONDS", 0.1, "did not end")],
)
def test_an_endless_pipe_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, bound: float, reason: str
) -> None:
    monkeypatch.setattr(input_file, name, bound)
    path = tmp_path / "rows.csv"
    os.mkfifo(path)
    ended = threading.Event()

    def write() -> None:
        try:
            with path.open("wb", buffering=0) as stream:
                while not ended.is_set():
                    stream.write(b"1,2\n")
        except BrokenPipeError:
            return

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with pytest.raises(ConfigError, match=reason):
            read(path)
    finally:
        ended.set()
        thread.join(PATIENCE)


def make_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as bound:
        # The path of a socket is short.
        os.chdir(path.parent)
        bound.bind(path.name)
    return path


def make_loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


UNREADABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "folder": (lambda path: path.parent, "is a folder"),
    "zeros": (lambda path: Path("/dev/zero"), "/dev/zero is a device"),
    "random": (lambda path: Path("/dev/urandom"), "is a device"),
    "null": (lambda path: Path("/dev/null"), "is a device"),
    "socket": (make_socket, "is a socket"),
    "loop": (make_loop, "cannot be opened: Too many levels"),
    "long name": (lambda path: path.with_name("x" * 256), "cannot be opened: File name too long"),
    "not UTF-8": (
        lambda path: path.with_name(os.fsdecode(b"J\xfcrgen.csv")),
        r"J\\xfcrgen.csv has a name that is not UTF-8",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_holds_no_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make, reason = UNREADABLE[name]
    path = make(tmp_path / "rows.csv")
    with pytest.raises(ConfigError, match=reason):
        read(path)
    with pytest.raises(ConfigError):
        input_file.require_file(path, "file")
