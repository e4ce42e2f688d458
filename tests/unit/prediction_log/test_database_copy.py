"""Copies of the records database, of either kind, into either kind."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import ConfigError, RecordsAway
from bc_pipeline.prediction_log.database import Database, open_database
from bc_pipeline.prediction_log.database_copy import copy_database, copy_sqlite, load_copy
from bc_pipeline.prediction_log.entry import LogEntry, new_id
from bc_pipeline.prediction_log.frames import encrypt
from bc_pipeline.prediction_log.insert import insert, insert_durably
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.prediction_log.tables import outcomes, predictions
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings
from tests.postgres import Postgres
from tests.unit.prediction_log.conftest import SampleEntry


def rows_of(database: Database) -> list[list[tuple[object, ...]]]:
    with database.read_transaction() as connection:
        return [
            [tuple(row) for row in connection.execute(sa.select(table).order_by(column))]
            for table, column in ((predictions, predictions.c.id), (outcomes, outcomes.c.seq))
        ]


@pytest.fixture
def recorded(log_settings: Settings, database: Database, entry: SampleEntry) -> Settings:
    """Predictions, plain and encrypted, and outcomes, one of them corrected."""
    made: list[LogEntry] = [
        entry(sample_id="s-\u00e4"),
        entry(probability=5e-324),
        entry(latency=0.1),
    ]
    assert insert_durably(database, [*made, encrypt(entry(), Cipher(bytes(32)))]) == []
    labels = get_problem("wdbc").labels
    record_outcomes(log_settings, [OutcomeReport(made[0].id, True, "lab", observed_at=1.5)], labels)
    record_outcomes(
        log_settings, [OutcomeReport(made[0].id, False, "lab", correction=True)], labels
    )
    record_outcomes(log_settings, [OutcomeReport(made[1].id, True, "lab")], labels)
    return log_settings


def test_a_copy_that_would_fill_the_volume_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prediction log needs that room: without it the service answers nothing."""
    source = tmp_path / "source.sqlite"
    database = sqlite3.connect(source)
    database.execute("CREATE TABLE t (x)")
    database.commit()
    database.close()
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
        with pytest.raises(ConfigError, match=r"source.sqlite .* room") as caught:
            copy_sqlite(source, tmp_path / "copy.sqlite", lambda _: None)
    assert caught.value.remedy
    assert not (tmp_path / "copy.sqlite").exists()
    copy_sqlite(source, tmp_path / "copy.sqlite", lambda _: None)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Settings]]:
    """Settings of an empty database, of each kind; to be called when the other is not needed."""
    made: list[Settings] = []

    def make() -> Settings:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
        else:
            url = request.getfixturevalue("postgres").emptied()
        made.append(Settings(home=tmp_path / "elsewhere", records_url=url))
        return made[-1]

    yield make
    for settings in made:
        open_database(settings).close()


def test_every_row_comes_back_in_either_kind(
    recorded: Settings, empty: Callable[[], Settings], tmp_path: Path, entry: SampleEntry
) -> None:
    before = rows_of(open_database(recorded))
    copy = tmp_path / "copy.sqlite"
    origin = copy_database(recorded, copy, lambda _: None)
    assert origin is not None
    assert origin.split()[1] == "0001"
    # One file, with nothing beside it.
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy.sqlite"]
    target = empty()
    with load_copy(target, copy) as kind:
        assert kind in ("sqlite", "postgresql")
    database = open_database(target)
    assert rows_of(database) == before
    # Numbers go on after those that were restored.
    more = entry()
    insert_durably(database, [more])
    (result,) = record_outcomes(
        target, [OutcomeReport(more.id, True, "lab")], get_problem("wdbc").labels
    )
    assert result.result == "recorded"
    assert len(rows_of(database)[1]) == len(before[1]) + 1


def test_rows_are_loaded_with_the_block_or_not_at_all(
    recorded: Settings, empty: Callable[[], Settings], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.sqlite"
    copy_database(recorded, copy, lambda _: None)
    target = empty()
    with pytest.raises(KeyError), load_copy(target, copy):
        raise KeyError
    assert rows_of(open_database(target)) == [[], []]
    with load_copy(target, copy):
        pass
    with pytest.raises(ConfigError, match="holds records already"), load_copy(target, copy):
        pytest.fail("it was loaded twice")


def test_there_may_be_no_database_yet(log_settings: Settings, tmp_path: Path) -> None:
    assert copy_database(log_settings, tmp_path / "copy.sqlite", lambda _: None) is None


def test_a_copy_is_of_one_moment_while_others_write(
    settings: Settings, tmp_path: Path, entry: SampleEntry
) -> None:
    """Pairs of rows are written together: a copy has both or none."""
    source = tmp_path / "source.sqlite"
    connection = sqlite3.connect(source, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE pairs (side, filler)")
    stop = threading.Event()

    def write() -> None:
        own = sqlite3.connect(source, isolation_level=None, timeout=30)
        while not stop.wait(0.001):
            own.execute("BEGIN IMMEDIATE")
            for side in "ab":
                own.execute("INSERT INTO pairs VALUES (?, ?)", (side, "x" * 3_000))
            own.execute("COMMIT")
        own.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            copy = tmp_path / f"{number}.sqlite"
            copy_sqlite(source, copy, lambda _: None)
            read = sqlite3.connect(copy)
            counts = dict(read.execute("SELECT side, count(*) FROM pairs GROUP BY side"))
            read.close()
            assert counts.get("a") == counts.get("b")
    finally:
        stop.set()
        thread.join()
        connection.close()


def test_a_damaged_file_is_not_copied(tmp_path: Path) -> None:
    source = tmp_path / "source.sqlite"
    source.write_bytes(b"no database at all" * 1000)
    with pytest.raises(RecordsAway):
        copy_sqlite(source, tmp_path / "copy.sqlite", lambda _: None)
    with pytest.raises(RecordsAway):
        copy_sqlite(tmp_path / "none.sqlite", tmp_path / "other.sqlite", lambda _: None)
    assert not (tmp_path / "none.sqlite").exists()


def test_a_long_copy_sees_one_moment(
    postgres: Postgres, tmp_path: Path, entry: SampleEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that come while PostgreSQL is read are not half in the copy."""
    monkeypatch.setattr("bc_pipeline.prediction_log.database_copy._ROWS", 1)
    settings = Settings(home=tmp_path / "home", records_url=postgres.emptied())
    database = open_database(settings)
    database.migrate()
    insert_durably(database, [entry() for _ in range(20)])
    stop = threading.Event()
    # Counts the writer's connections alone: a copy ends its own.
    address = sa.make_url(postgres.url()).set(drivername="postgresql+psycopg")
    own = Database(address, "bc_wdbc")

    def write() -> None:
        while not stop.wait(0.002):
            late = entry(id=new_id())
            outcome = {
                "prediction_id": late.id,
                "positive": True,
                "recorded_at": 1.0,
                "source": "lab",
            }
            with own.write_transaction() as connection:
                insert(connection, [late])
                connection.execute(sa.insert(outcomes), outcome)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(3):
            copy = tmp_path / f"{number}.sqlite"
            copy_database(settings, copy, lambda _: None)
            read = sqlite3.connect(copy)
            # An outcome without its prediction would break the reference.
            assert read.execute("PRAGMA foreign_key_check").fetchall() == []
            reported, known = (
                read.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                for name in ("predictions", "outcomes")
            )
            read.close()
            assert reported - 20 == known
    finally:
        stop.set()
        thread.join()
        own.close()
        database.close()
