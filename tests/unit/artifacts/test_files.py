"""Modes of what is written: one user writes the shared volume, another of the group reads it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bc_pipeline.artifacts.files import (
    locked,
    make_directory,
    staged_directory,
    staged_file,
    write_atomic,
)

FILE, FOLDER = 0o640, 0o2775


@pytest.fixture(params=[0o022, 0o077], ids=["umask 022", "umask 077"], autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def bytes_at_hand(path: Path) -> None:
    write_atomic(path, b"x")


def piece_by_piece(path: Path) -> None:
    with staged_file(path) as staged:
        staged.write_bytes(b"x")


def in_a_folder(path: Path) -> None:
    with staged_directory(path.parent) as staged:
        (staged / path.name).write_bytes(b"x")


def under_a_lock(path: Path) -> None:
    with locked(path):
        pass


@pytest.mark.parametrize("write", [bytes_at_hand, piece_by_piece, in_a_folder])
def test_a_reader_of_the_group_finds_and_reads_it(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "volume" / "models" / "file"
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == FILE
    for folder in (path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == FOLDER, folder.name


def test_a_lock_file_is_not_for_everybody(tmp_path: Path) -> None:
    under_a_lock(tmp_path / "volume" / ".lock")
    assert not (tmp_path / "volume" / ".lock").stat().st_mode & 0o027


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    kept = tmp_path / "keys"
    kept.mkdir()
    kept.chmod(0o700)
    make_directory(kept / "more")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert stat.S_IMODE((kept / "more").stat().st_mode) == FOLDER


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_bytes(b"")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        make_directory(tmp_path / "models" / "wdbc")
