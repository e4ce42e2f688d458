from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

from bc_pipeline.prediction_log import drain, pauses, segments
from bc_pipeline.prediction_log.database import Database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.entry import LogEntry, lowest_id, new_id
from bc_pipeline.prediction_log.frames import MAGIC, encode_frame
from bc_pipeline.prediction_log.segments import spool_folder
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.prediction_log.status import read_status
from bc_pipeline.prediction_log.tables import predictions
from bc_pipeline.settings import Settings
from tests.waiting import PATIENCE

SampleEntry = Callable[..., LogEntry]
OpenSpool = Callable[..., Spool]


def drain_once(settings: Settings) -> bool:
    return Drainer(settings, threading.Event()).run(once=True)


def stored(database: Database) -> list[str]:
    with database.read_transaction() as connection:
        return list(
            connection.execute(sa.select(predictions.c.id).order_by(predictions.c.id)).scalars()
        )


def left_behind(settings: Settings, data: bytes) -> Path:
    """A segment of a worker that is dead."""
    folder = spool_folder(settings.records)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{new_id()}-dead.seg"
    path.write_bytes(MAGIC + data)
    return path


def test_every_field_arrives(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    spool = spool_of(log_settings)
    one = entry(sample_id="patient-7")
    other = entry(positive=False, sample_id=None)
    spool.append([one])
    spool.append([other])
    assert drain_once(log_settings)
    with database.read_transaction() as connection:
        rows = {row.id: row for row in connection.execute(sa.select(predictions))}
    for made in (one, other):
        row = rows[made.id]
        assert (
            LogEntry(
                *[
                    getattr(row, "features" if f == "values" else f)
                    for f in LogEntry.__struct_fields__
                ]
            )
            == made
        )
        assert row.sealed is False


def test_draining_again_changes_nothing(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    spool = spool_of(log_settings)
    entries = [entry() for _ in range(50)]
    spool.append(entries)
    assert drain_once(log_settings)
    (spool_folder(log_settings.records) / segments.OFFSETS_FILE).write_bytes(b"")
    late = entry()
    spool.append([late])
    assert drain_once(log_settings)
    assert stored(database) == sorted(made.id for made in [*entries, late])


@pytest.mark.parametrize(("read_bytes", "pauses_made"), [(2 << 20, True), (1 << 14, False)])
def test_only_a_short_backlog_is_drained_with_pauses(
    log_settings: Settings,
    database: Database,
    spool_of: OpenSpool,
    entry: SampleEntry,
    monkeypatch: pytest.MonkeyPatch,
    read_bytes: int,
    pauses_made: bool,
) -> None:
    """A long one has to be caught up with; its last, short read may pause again."""
    slept: list[float] = []
    monkeypatch.setattr(pauses.time, "sleep", slept.append)
    monkeypatch.setattr(drain, "_READ_BYTES", read_bytes)
    entries = [entry() for _ in range(4 * pauses.INSERTED)]
    spool_of(log_settings).append(entries)
    assert drain_once(log_settings)
    assert stored(database) == sorted(made.id for made in entries)
    assert (len(slept) > 2) == pauses_made


def test_a_dead_workers_segment_is_taken_over_and_removed(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    entries = [entry() for _ in range(30)]
    data = b"".join(encode_frame(made) for made in entries)
    dead = left_behind(log_settings, data + encode_frame(entry())[:-5])
    living = spool_of(log_settings)
    living.append([entry()])
    assert drain_once(log_settings)
    assert not dead.exists()
    assert len(segments.list_segments(spool_folder(log_settings.records))) == 1
    assert len(stored(database)) == 31
    status = read_status(log_settings.records)
    assert status is not None
    # A killed worker did not answer the entry that it had not finished: that is no damage.
    assert (status.drained, status.damaged, status.backlog) == (31, 0, 0)


def test_damage_is_set_aside_and_counted(
    log_settings: Settings, database: Database, entry: SampleEntry
) -> None:
    entries = [entry() for _ in range(10)]
    frames = [encode_frame(made) for made in entries]
    broken = bytearray(frames[4])
    broken[60] ^= 0x55
    dead = left_behind(log_settings, b"".join([*frames[:4], broken, *frames[5:]]))
    assert drain_once(log_settings)
    assert stored(database) == sorted(made.id for made in entries if made is not entries[4])
    assert not dead.exists()
    (quarantined,) = (log_settings.records / "quarantine").iterdir()
    assert quarantined.read_bytes() == broken
    status = read_status(log_settings.records)
    assert status is not None
    assert (status.drained, status.damaged) == (9, 1)


def test_a_row_that_the_database_refuses_does_not_stop_the_others(
    log_settings: Settings, database: Database, entry: SampleEntry
) -> None:
    entries = [entry() for _ in range(9)]
    # SQLite takes a text of any length.
    refused = entry(manifest_sha256="x" * 100) if not database.is_sqlite else None
    with_zero = entry(sample_id="a\0b")
    rows = [*entries[:5], *([refused] if refused else []), *entries[5:], with_zero]
    left_behind(log_settings, b"".join(encode_frame(made) for made in rows))
    assert drain_once(log_settings)
    assert stored(database) == sorted(made.id for made in [*entries, with_zero])
    status = read_status(log_settings.records)
    assert status is not None
    assert status.refused == (1 if refused else 0)
    if refused:
        quarantined = log_settings.records / "quarantine" / f"{refused.id}.refused"
        assert quarantined.read_bytes() == encode_frame(refused)


def test_a_second_drainer_waits(
    log_settings: Settings, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    stops = [threading.Event(), threading.Event()]
    drainers = [Drainer(log_settings, stop) for stop in stops]
    threads = [threading.Thread(target=drainer.run) for drainer in drainers]
    threads[0].start()
    lock = log_settings.records / segments.DRAIN_LOCK
    deadline = time.monotonic() + 10
    while not (lock.exists() and segments.is_locked(lock)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    threads[1].start()
    time.sleep(0.3)
    assert threads[1].is_alive()
    stops[0].set()
    threads[0].join(PATIENCE)
    spool_of(log_settings).append([entry()])
    while not ((status := read_status(log_settings.records)) and status.drained == 1):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stops[1].set()
    threads[1].join(PATIENCE)
    assert not threads[1].is_alive()


def test_what_is_there_when_it_is_stopped_is_drained(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    entries = [entry() for _ in range(5)]
    spool_of(log_settings).append(entries)
    stop = threading.Event()
    stop.set()
    drainer = Drainer(log_settings, stop)
    assert drainer.run()
    assert len(stored(database)) == 5


def test_old_predictions_are_removed_and_young_ones_stay(
    log_settings: Settings, database: Database, entry: SampleEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = count()
    now = time.time()

    def aged(days: float) -> LogEntry:
        moment = now - days * 86_400
        return entry(id=lowest_id(moment)[:-3] + f"{next(numbers):03x}", at=moment)

    old = [aged(40), aged(31)]
    young = [aged(29), aged(0)]
    left_behind(log_settings, b"".join(encode_frame(made) for made in [*old, *young]))
    monkeypatch.setattr(drain, "_RETENTION_SECONDS", 0.0)
    assert drain_once(log_settings)
    assert len(stored(database)) == 4
    assert drain_once(log_settings.model_copy(update={"records_retention_days": 30}))
    assert stored(database) == sorted(made.id for made in young)


def test_the_database_away(tmp_path: Path, spool_of: OpenSpool, entry: SampleEntry) -> None:
    nowhere = Settings(
        home=tmp_path, records_url=f"postgresql://bc:canary-password@/bc?host={tmp_path}"
    )
    spool_of(nowhere).append([entry()])
    assert not drain_once(nowhere)
    status = read_status(nowhere.records)
    assert status is not None
    assert status.database == "away"
    assert status.error
    assert status.backlog > 0
    assert status.oldest >= 0
    assert "canary" not in (nowhere.records / "status.json").read_text()
