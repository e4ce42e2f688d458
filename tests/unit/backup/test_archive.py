"""The archive: it holds plain files below the roots and a manifest, and nothing else is read."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bc_pipeline.backup.archive import (
    MANIFEST,
    ArchiveEntry,
    BackupManifest,
    Write,
    read_archive,
    writing_archive,
)
from bc_pipeline.errors import BackupInvalid, TransientError


def manifest_of(entries: list[ArchiveEntry]) -> BackupManifest:
    return BackupManifest(
        package_version="0.1.0",
        store_format=1,
        created_at="2026-11-15T00:00:00Z",
        with_keys=True,
        verify_key="",
        generations={},
        databases={},
        left_out=(),
        entries=tuple(entries),
    )


def entry_of(name: str, data: bytes) -> ArchiveEntry:
    return ArchiveEntry(name, len(data), hashlib.sha256(data).hexdigest(), 0o640, 1)


def member(
    name: str, data: bytes = b"", tar_format: int = tarfile.GNU_FORMAT, **changes: Any
) -> bytes:
    """One entry of a tar file, with its padding."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    for field, value in changes.items():
        setattr(header, field, value)
    padding = bytes(-len(data) % tarfile.BLOCKSIZE)
    return header.tobuf(tar_format) + data + padding


def written(*files: tuple[str, bytes], manifest: bytes | None = None) -> bytes:
    """An archive made by hand, also one that our writer does not write."""
    closing = msgspec.json.encode(manifest_of([entry_of(*file) for file in files]))
    members = [member(*file) for file in files]
    members.append(member(MANIFEST, closing if manifest is None else manifest))
    return b"".join(members) + bytes(2 * tarfile.BLOCKSIZE)


def read(archive: bytes) -> tuple[BackupManifest, dict[str, bytes]]:
    received: dict[str, bytes] = {}

    @contextmanager
    def receive(name: str) -> Iterator[Write]:
        received[name] = b""

        def write(data: bytes) -> None:
            received[name] += data

        yield write

    return read_archive(io.BytesIO(archive), receive), received


def test_files_are_read_with_their_bytes_modes_and_times(tmp_path: Path) -> None:
    stream = io.BytesIO()
    names = ("home/a", "home/b/c d", "records/wdbc/\u00e4", f"home/{'long/' * 60}name")
    contents = dict(zip(names, (b"", b"x" * 700_000, b"y", b"z" * 512), strict=True))
    with writing_archive(stream) as archive:
        for number, (name, data) in enumerate(contents.items()):
            path = tmp_path / str(number)
            path.write_bytes(data)
            path.chmod(0o600 + number)
            archive.add(name, path)
        archive.finish(manifest_of(archive.entries))
    manifest, received = read(stream.getvalue())
    assert received == contents
    assert [entry.mode for entry in manifest.entries] == [0o600, 0o601, 0o602, 0o603]
    assert manifest.entries[1].modified == (tmp_path / "1").stat().st_mtime_ns
    assert manifest.entries[1].sha256 == hashlib.sha256(contents["home/b/c d"]).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as tar:
        assert tar.getnames() == [*names, MANIFEST]


def test_links_pipes_and_folders_are_not_added(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe")
    with writing_archive(io.BytesIO()) as archive:
        for name in ("link", "pipe", "."):
            with pytest.raises(FileNotFoundError):
                archive.add("home/it", tmp_path / name)
        with pytest.raises(UnicodeEncodeError):
            archive.add("home/\udcff", Path(__file__))
    assert archive.entries == []


def test_a_file_that_is_shortened_meanwhile_ends_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    fstat, calls = os.fstat, []

    def then_shortened(descriptor: int) -> os.stat_result:
        calls.append(descriptor)
        status = fstat(descriptor)
        if len(calls) > 1:
            os.truncate(path, 50)
        return status

    monkeypatch.setattr(os, "fstat", then_shortened)
    with (
        pytest.raises(TransientError, match="home/a was shortened"),
        writing_archive(io.BytesIO()) as archive,
    ):
        archive.add("home/a", path)


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
        "records/../home/a",
        "~/a",
        f"home/{'long/' * 60}../../a",
    ],
)
def test_a_name_outside_of_the_roots_is_refused(name: str) -> None:
    with pytest.raises(BackupInvalid, match="cannot be restored"):
        read(written((name, b"hostile")))


@pytest.mark.parametrize(
    "names", [("home/a", "home/a"), ("home/a", "home/a/b"), ("home/a/b", "home/a")]
)
def test_conflicting_names_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(BackupInvalid, match="cannot be restored"):
        read(written(*((name, b"x") for name in names)))


@pytest.mark.parametrize(
    "hostile",
    [
        member("home/a", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("home/a", type=tarfile.LNKTYPE, linkname="home/b"),
        member("home/a", type=tarfile.CHRTYPE),
        member("home/a", type=tarfile.BLKTYPE),
        member("home/a", type=tarfile.FIFOTYPE),
        member("home/a", type=tarfile.DIRTYPE),
        member("home/a", type=tarfile.CONTTYPE),
        member("home/a", type=tarfile.GNUTYPE_SPARSE),
        member("home/a", type=tarfile.AREGTYPE),
        member("home/a", type=b"Z"),
        member("home/a", type=tarfile.XHDTYPE, size=1 << 40),
        member("home/a", type=tarfile.XGLTYPE),
        member("home/a", type=tarfile.GNUTYPE_LONGLINK, size=200),
        member("home/a", type=tarfile.GNUTYPE_LONGNAME, size=1 << 40),
        member("home/a", size=-512),
        member("home/\u00e4", tar_format=tarfile.PAX_FORMAT),
    ],
)
def test_entries_that_are_no_plain_files_are_refused(hostile: bytes) -> None:
    with pytest.raises(BackupInvalid, match="entry that is not a file"):
        read(member("home/first", b"x") + hostile + written(("home/b", b"x")))


def test_nested_long_names_are_refused() -> None:
    with pytest.raises(BackupInvalid, match="damaged"):
        read(member("home/a", b"home/a\0", type=tarfile.GNUTYPE_LONGNAME) * 5_000)


def test_the_manifest_must_list_the_very_files() -> None:
    good = [entry_of("home/a", b"x")]
    read(written(("home/a", b"x"), manifest=msgspec.json.encode(manifest_of(good))))
    for entries in (
        [],
        [*good, *good],
        [msgspec.structs.replace(good[0], name="home/b")],
        [msgspec.structs.replace(good[0], size=2)],
        [msgspec.structs.replace(good[0], sha256="0" * 64)],
    ):
        data = msgspec.json.encode(manifest_of(entries))
        with pytest.raises(BackupInvalid, match="not those in its manifest"):
            read(written(("home/a", b"x"), manifest=data))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"entries": 1}'])
def test_a_damaged_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BackupInvalid, match="manifest"):
        read(written(("home/a", b"x"), manifest=data))


def test_a_manifest_that_is_too_large_is_refused() -> None:
    with pytest.raises(BackupInvalid, match="too large"):
        read(member("home/a", b"x") + member(MANIFEST, size=1 << 40))


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        bytes(1024),
        b"x" * 1024,
        member("home/a", b"x"),
        member("home/a", b"x") + bytes(1024),
        member("home/a", b"x")[:600],
        member("home/a", b"x")[:100],
        member("home/a", b"x", size=1 << 60),
        member("home/a", b"x") + b"\xff" * 512 + written(("home/b", b"x")),
        b"\xff" * 100 + member("home/a", b"x")[100:],
    ],
)
def test_an_archive_that_is_damaged_or_cut_short_is_refused(archive: bytes) -> None:
    with pytest.raises(BackupInvalid):
        read(archive)


def test_nothing_may_follow_the_manifest() -> None:
    good = written(("home/a", b"x"))
    read(good + bytes(100_000))
    for extra in (b"x", member("home/b", b"x"), bytes(1 << 20) + b"x"):
        with pytest.raises(BackupInvalid, match="after its manifest"):
            read(good + extra)
    with pytest.raises(BackupInvalid, match="after its manifest"):
        read(good[: -2 * tarfile.BLOCKSIZE] + member("home/b", b"x"))
