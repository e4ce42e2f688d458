from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bc_pipeline.errors import RecordsAway
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.entry import LogEntry
from bc_pipeline.prediction_log.frames import MAGIC, read_frames
from bc_pipeline.prediction_log.segments import spool_folder
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.settings import Settings

SampleEntry = Callable[..., LogEntry]
OpenSpool = Callable[..., Spool]
_MIB = 1 << 20


def logged(folder: Path) -> list[object]:
    found: list[object] = []
    for path in segments.list_segments(folder):
        data = path.read_bytes()
        assert data.startswith(MAGIC)
        found += [part.entry for part in read_frames(data[len(MAGIC) :], closed=True)]
    return found


def eventually(true: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_record_is_in_the_file_when_append_returns(
    settings: Settings, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    spool = spool_of(settings)
    first, second, third = entry(), entry(sample_id="s"), entry(probability=0.1)
    spool.append([first])
    assert logged(spool_folder(settings.records)) == [first]
    spool.append([second, third])
    assert logged(spool_folder(settings.records)) == [first, second, third]


def test_segments_are_held_until_they_are_finished(
    settings: Settings, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    spool = spool_of(settings)
    spool.append([entry()])
    (path,) = segments.list_segments(spool_folder(settings.records))
    assert segments.is_locked(path)
    spool.close()
    assert not segments.is_locked(path)


def test_segments_change_by_size(
    settings: Settings, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    settings = settings.model_copy(update={"records_backlog_mb": 1})
    spool = spool_of(settings)
    entries = [entry() for _ in range(1_000)]
    for one in entries:
        spool.append([one])
    folder = spool_folder(settings.records)
    assert len(segments.list_segments(folder)) >= 3
    # Segments that were begun in one millisecond have no order.
    assert sorted(logged(folder), key=repr) == sorted(entries, key=repr)


def test_a_full_backlog_stops_and_goes_on(
    settings: Settings, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    settings = settings.model_copy(update={"records_backlog_mb": 1})
    folder = spool_folder(settings.records)
    spool = spool_of(settings)
    batch = [entry() for _ in range(100)]

    def fill() -> None:
        for _ in range(100):
            spool.append(batch)

    with pytest.raises(RecordsAway, match="too much waits"):
        fill()
    logged_count = len(logged(folder))
    assert logged_count % 100 == 0
    assert segments.backlog_bytes(folder) <= _MIB
    assert not spool.state().writable
    for path in segments.list_segments(folder)[:-1]:
        path.unlink()
    eventually(lambda: spool.state().writable)
    spool.append(batch)


def test_what_is_drained_is_no_backlog(
    settings: Settings, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    folder = spool_folder(settings.records)
    spool = spool_of(settings)
    spool.append([entry()])
    assert spool.state().backlog == segments.backlog_bytes(folder) > 0
    (path,) = segments.list_segments(folder)
    (folder / segments.OFFSETS_FILE).write_text(f'{{"{path.name}": {path.stat().st_size}}}')
    assert segments.backlog_bytes(folder) == 0
    eventually(lambda: spool.state().backlog == 0)


def test_a_folder_that_goes_and_comes_back(
    settings: Settings, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    folder = spool_folder(settings.records)
    spool = spool_of(settings)
    spool.append([entry()])
    shutil.rmtree(folder)
    eventually(lambda: not spool.state().writable)
    with pytest.raises(RecordsAway):
        spool.append([entry()])
    folder.mkdir()
    eventually(lambda: spool.state().writable)
    late = entry()
    spool.append([late])
    assert logged(folder) == [late]


def test_a_descriptor_that_is_gone_is_got_over(
    settings: Settings, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    settings = settings.model_copy(update={"records_backlog_mb": 1})
    spool = spool_of(settings)
    folder = spool_folder(settings.records)
    spool.append([entry()])
    (path,) = segments.list_segments(folder)
    (descriptor,) = (int(found.name) for found in descriptors() if points_to(found, path))
    os.close(descriptor)
    # Tending finds it first.
    eventually(lambda: not spool.state().writable)
    assert spool.state().error == os.strerror(errno.EBADF)
    with pytest.raises(RecordsAway):
        spool.append([entry()])
    # Tending tries whether it can be written again.
    eventually(lambda: spool.state().writable)
    again = entry()
    spool.append([again])
    assert logged(folder)[-1] == again


def descriptors() -> list[Path]:
    return list(Path("/proc/self/fd").iterdir())


def points_to(descriptor: Path, path: Path) -> bool:
    try:
        return descriptor.readlink() == path
    except FileNotFoundError:
        return False


def test_a_folder_that_cannot_be_made(settings: Settings) -> None:
    settings.records.parent.mkdir(parents=True)
    settings.records.write_text("a file stands there")
    with pytest.raises(RecordsAway):
        Spool.open(settings, "worker-0")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small tmpfs: run as root, with CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_takes_whole_records_or_none(
    settings: Settings, entry: SampleEntry, small_disk: Path
) -> None:
    settings = settings.model_copy(update={"records_dir": small_disk})
    folder = spool_folder(settings.records)
    spool = Spool.open(settings, "worker-0")
    drained: list[LogEntry] = []

    def fill() -> None:
        while True:
            batch = [entry() for _ in range(7)]
            spool.append(batch)
            drained.extend(batch)

    with pytest.raises(RecordsAway, match="No space"):
        fill()
    for _ in range(3):
        with pytest.raises(RecordsAway):
            spool.append([entry(sample_id="x" * 5_000)])
    assert not spool.state().writable
    assert logged(folder) == drained
    # Once the drainer has taken a segment away there is room, and nobody need ask first.
    (full, *_) = segments.list_segments(folder)
    eventually(lambda: not segments.is_locked(full))
    full.unlink()
    eventually(lambda: spool.state().writable)
    late = entry()
    spool.append([late])
    assert logged(folder)[-1] == late
    spool.close()


def test_no_plain_value_is_in_an_encrypted_log(
    settings: Settings, spool_of: OpenSpool, entry: SampleEntry, key_file: Path
) -> None:
    settings = settings.model_copy(update={"records_key_file": key_file})
    spool = spool_of(settings)
    one = entry(sample_id="canary-patient")
    spool.append([one])
    spool.append([one, one])
    (path,) = segments.list_segments(spool_folder(settings.records))
    data = path.read_bytes()
    assert data.count(one.id.encode()) == 3
    assert b"canary" not in data
    assert one.values[:16] not in data


def test_a_worker_that_died_while_beginning_leaves_nothing(settings: Settings) -> None:
    folder = spool_folder(settings.records)
    folder.mkdir(parents=True)
    descriptor = segments.create_segment(folder, "worker-0")
    (path,) = segments.list_segments(folder)
    os.close(descriptor)
    abandoned = path.with_suffix(".part")
    path.rename(abandoned)
    segments.remove_abandoned_segments(folder, time.time() - 60)
    assert abandoned.exists()
    segments.remove_abandoned_segments(folder, time.time() + 1)
    assert not abandoned.exists()
