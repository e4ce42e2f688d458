"""Modes of what is written, as one user writes the shared volume and another reads it; damage."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts.files import (
    locked,
    make_directory,
    read_document,
    staged_directory,
    staged_file,
    write_atomic,
)
from bc_pipeline.artifacts.leftovers import SUFFIX
from bc_pipeline.artifacts.manifest import FileEntry
from bc_pipeline.errors import ArtifactCorrupt

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


@pytest.mark.parametrize("write", [bytes_at_hand, piece_by_piece, in_a_folder])
@pytest.mark.parametrize("call", ["open", "mkdir", "fchmod", "fsync", "replace"])
def test_a_signal_leaves_no_temporary_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], call: str
) -> None:
    """Its handler raises right after a call, such as the one that makes the entry."""
    path = make_directory(tmp_path / "volume") / "folder" / "file"
    done = getattr(os, call)

    def interrupted(target: Any, *arguments: Any, **named: Any) -> Any:
        result = done(target, *arguments, **named)
        if call in ("fchmod", "fsync") or SUFFIX in os.fspath(target):
            # Once: removing the entry calls some of them too.
            monkeypatch.setattr(os, call, done)
            raise KeyboardInterrupt
        return result

    if write is not in_a_folder:
        make_directory(path.parent)
    monkeypatch.setattr(os, call, interrupted)
    with suppress(KeyboardInterrupt):
        write(path)
    assert list(tmp_path.rglob(f"*{SUFFIX}")) == []


def under_a_lock(path: Path) -> None:
    with locked(path):
        pass


@pytest.mark.parametrize("write", [bytes_at_hand, piece_by_piece, in_a_folder])
def test_new_files_and_folders_are_readable_by_the_group(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "volume" / "models" / "file"
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == FILE
    for folder in (path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == FOLDER, folder.name


def test_a_file_becomes_read_only_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    write_bytes = Path.write_bytes

    def record(path: Path, data: bytes) -> int:
        modes.append(stat.S_IMODE(path.stat().st_mode))
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", record)
    path = tmp_path / "secret"
    write_atomic(path, b"x", mode=0o444)
    assert modes == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_a_lock_file_is_not_world_accessible(tmp_path: Path) -> None:
    under_a_lock(tmp_path / "volume" / ".lock")
    assert not (tmp_path / "volume" / ".lock").stat().st_mode & 0o027


def test_an_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    existing = tmp_path / "keys"
    existing.mkdir()
    existing.chmod(0o700)
    make_directory(existing / "more")
    assert stat.S_IMODE(existing.stat().st_mode) == 0o700
    assert stat.S_IMODE((existing / "more").stat().st_mode) == FOLDER


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_bytes(b"")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        make_directory(tmp_path / "models" / "wdbc")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"sha256": "\xff", "size": 1}'])
def test_a_damaged_document_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "entry.json").write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match=r"entry\.json"):
        read_document(tmp_path / "entry.json", FileEntry)
