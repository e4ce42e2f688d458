"""Entries and the manifest: nothing but plain files below the roots comes out."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bc_pipeline.backup.archive import (
    ArchiveWriter,
    Entry,
    Manifest,
    Sink,
    read_archive,
)
from bc_pipeline.backup.keys import BackupKeys
from bc_pipeline.backup.stream import OpeningStream, SealingStream
from bc_pipeline.errors import BackupInvalid

KEYS = BackupKeys((bytes(range(32)),))


def manifest_of(entries: list[Entry], **changes: Any) -> Manifest:
    found: dict[str, Any] = {
        "package_version": "0.1.0",
        "store_format": 1,
        "created_at": "2026-11-15T00:00:00Z",
        "with_keys": True,
        "verify_key": "",
        "generations": {},
        "databases": {},
        "left_out": (),
        "entries": tuple(entries),
    }
    return Manifest(**(found | changes))


def written(*parts: tuple[str, bytes], manifest: bytes | None = None) -> bytes:
    """An archive made by hand: what our writer would not write, too."""
    sink = io.BytesIO()
    stream = SealingStream(sink, KEYS)
    entries = []
    for name, data in parts:
        encoded = name.encode()
        stream.write(len(encoded).to_bytes(2, "big") + encoded)
        stream.write((len(data).to_bytes(4, "big") + data if data else b"") + bytes(4))
        entries.append(Entry(name, len(data), hashlib.sha256(data).hexdigest(), 0o640, 1))
    closing = msgspec.json.encode(manifest_of(entries)) if manifest is None else manifest
    stream.write(bytes(2) + len(closing).to_bytes(8, "big") + closing)
    stream.finish()
    return sink.getvalue()


def read(box: bytes) -> tuple[Manifest, dict[str, bytes]]:
    taken: dict[str, bytes] = {}

    @contextmanager
    def receive(name: str) -> Iterator[Sink]:
        taken[name] = b""

        def take(data: bytes) -> None:
            taken[name] += data

        yield take

    return read_archive(OpeningStream(io.BytesIO(box), KEYS, "a backup"), receive), taken


def test_files_come_back_with_their_bytes_modes_and_times(tmp_path: Path) -> None:
    sink = io.BytesIO()
    sealing = SealingStream(sink, KEYS)
    archive = ArchiveWriter(sealing)
    contents = {"home/a": b"", "home/b/c d": b"x" * 700_000, "records/wdbc/\u00e4": b"y"}
    for number, (name, data) in enumerate(contents.items()):
        path = tmp_path / str(number)
        path.write_bytes(data)
        path.chmod(0o600 + number)
        archive.add(name, path)
    archive.finish(manifest_of(archive.entries))
    manifest, taken = read(sink.getvalue())
    assert taken == contents
    assert [entry.mode for entry in manifest.entries] == [0o600, 0o601, 0o602]
    assert manifest.entries[1].modified == (tmp_path / "1").stat().st_mtime_ns
    assert manifest.entries[1].sha256 == hashlib.sha256(contents["home/b/c d"]).hexdigest()


def test_a_link_or_a_pipe_is_no_file(tmp_path: Path) -> None:
    archive = ArchiveWriter(SealingStream(io.BytesIO(), KEYS))
    (tmp_path / "link").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "."):
        with pytest.raises(FileNotFoundError):
            archive.add("home/it", tmp_path / name)
    assert archive.entries == []


@pytest.mark.parametrize(
    "name",
    [
        "home",
        "home/",
        "home/../outside",
        "../outside",
        "home/a/../../../outside",
        "/etc/passwd",
        "home//etc/passwd",
        "home/./a",
        "etc/passwd",
        "home/.restore/a",
        "home/.ssh/authorized_keys",
        "home/a/.hidden",
        "home/nul\0",
        "records/../home/a",
        "~/a",
    ],
)
def test_a_name_that_leaves_its_place_is_refused(name: str) -> None:
    with pytest.raises(BackupInvalid, match="cannot be put in place"):
        read(written((name, b"hostile")))


@pytest.mark.parametrize(
    "names", [("home/a", "home/a"), ("home/a", "home/a/b"), ("home/a/b", "home/a")]
)
def test_names_in_the_way_of_each_other_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(BackupInvalid, match="cannot be put in place"):
        read(written(*((name, b"x") for name in names)))


def test_the_manifest_must_list_the_very_files() -> None:
    good = [Entry("home/a", 1, hashlib.sha256(b"x").hexdigest(), 0o640, 1)]
    read(written(("home/a", b"x"), manifest=msgspec.json.encode(manifest_of(good))))
    for entries in (
        [],
        [*good, *good],
        [msgspec.structs.replace(good[0], name="home/b")],
        [msgspec.structs.replace(good[0], size=2)],
        [msgspec.structs.replace(good[0], sha256="0" * 64)],
    ):
        data = msgspec.json.encode(manifest_of(entries))
        with pytest.raises(BackupInvalid, match="not those that its manifest lists"):
            read(written(("home/a", b"x"), manifest=data))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"entries": 1}'])
def test_a_manifest_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(BackupInvalid, match="manifest"):
        read(written(("home/a", b"x"), manifest=data))


def test_lengths_are_bounded() -> None:
    for raw in (
        b"\x00\x06home/a" + (1 << 30).to_bytes(4, "big"),
        b"\xff\xff" + bytes(70_000),
        bytes(2) + (1 << 40).to_bytes(8, "big"),
    ):
        sink = io.BytesIO()
        stream = SealingStream(sink, KEYS)
        stream.write(raw)
        stream.finish()
        with pytest.raises(BackupInvalid, match="than"):
            read(sink.getvalue())
