from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bc_pipeline.errors import ConfigError, RecordsAway
from bc_pipeline.prediction_log.database import FILE_NAME, Database, open_database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.insert import insert_durably
from bc_pipeline.prediction_log.status import read_status
from bc_pipeline.prediction_log.tables import metadata, predictions
from bc_pipeline.serving.error_responses import from_error
from bc_pipeline.settings import Settings, load_settings
from tests.postgres import Postgres
from tests.unit.prediction_log.conftest import SampleEntry


def test_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    with database.read_transaction() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_several_migrate_at_once(log_settings: Settings) -> None:
    database = open_database(log_settings)
    failures: list[Exception] = []

    def migrate() -> None:
        try:
            database.migrate()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert database.revision() == "0001"


def test_a_failed_block_writes_nothing(database: Database) -> None:
    def fail() -> None:
        with database.write_transaction() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = 'x'"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert database.revision() == "0001"


def test_a_database_without_tables_is_away(log_settings: Settings) -> None:
    database = open_database(log_settings)
    with pytest.raises(RecordsAway) as caught:
        database.revision()
    assert database.last_error in ("SQLITE_ERROR", "42P01")
    # Who runs the service is told the driver's code, a caller is not.
    assert database.last_error in str(caught.value)
    shown = from_error(caught.value)
    assert shown.status_code == 503
    assert database.last_error.encode() not in bytes(shown.body)


def test_a_database_of_a_newer_release_is_away(log_settings: Settings, database: Database) -> None:
    with database.write_transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RecordsAway, match="newer release"):
        database.migrate()
    assert database.last_error == "newer-release"
    assert database.revision() == "9999"
    assert not Drainer(log_settings, threading.Event()).run(once=True)
    status = read_status(log_settings.records)
    assert status is not None
    assert (status.database, status.error) == ("away", "newer-release")


def test_who_may_not_make_schemas_can_use_one_that_is_there(
    postgres: Postgres, tmp_path: Path, entry: SampleEntry
) -> None:
    url = postgres.emptied()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS plain")
        connection.execute("CREATE ROLE plain LOGIN")
        connection.execute("CREATE SCHEMA bc_wdbc AUTHORIZATION plain")
    database = open_database(Settings(home=tmp_path, records_url=url.replace("//bc:", "//plain:")))
    database.migrate()
    database.migrate()
    assert insert_durably(database, [entry()]) == []
    database.close()
    with psycopg.connect(postgres.emptied(), autocommit=True) as connection:
        connection.execute("DROP ROLE plain")


@pytest.mark.parametrize(
    "url", ["mysql://bc:canary@host/db", "canary", "sqlite://", "postgresql+pg8000://canary@h/d"]
)
def test_other_addresses_are_refused_without_being_told(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(records_url=url)
    assert caught.value.setting == "BC_RECORDS_URL"
    assert "canary" not in str(caught.value)


def test_no_password_and_no_address_in_an_error(tmp_path: Path) -> None:
    url = f"postgresql://bc:canary-password@/bc?host={tmp_path}"
    with pytest.raises(RecordsAway) as caught:
        open_database(Settings(records_url=url)).revision()
    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_others_cannot_read_the_file(settings: Settings) -> None:
    database = open_database(settings)
    database.migrate()
    modes = {path.name: path.stat().st_mode & 0o007 for path in settings.records.iterdir()}
    database.close()
    assert set(modes) >= {"predictions.sqlite", "predictions.sqlite-wal"}
    assert set(modes.values()) == {0}


def test_problems_share_a_server_without_meeting(
    postgres: Postgres, tmp_path: Path, entry: SampleEntry
) -> None:
    url = postgres.emptied()
    counts = []
    databases = [
        open_database(Settings(home=tmp_path, records_url=url, service_problem=name))
        for name in ("wdbc", "rna risk")
    ]
    for database in databases:
        database.migrate()
    insert_durably(databases[0], [entry()])
    for database in databases:
        with database.read_transaction() as connection:
            counts.append(
                connection.execute(sa.select(sa.func.count()).select_from(predictions)).scalar_one()
            )
        database.close()
    assert counts == [1, 0]


def test_a_reader_of_another_process_takes_no_log_away(
    settings: Settings, entry: SampleEntry
) -> None:
    """SQLite's last reader removes the write-ahead log: ours must still hold its locks then."""

    def counted() -> int:
        """By another process, which opens the file, reads and closes it."""
        code = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
            "print(c.execute('SELECT count(*) FROM predictions').fetchone()[0]); c.close()"
        )
        command = [sys.executable, "-c", code, str(settings.records / FILE_NAME)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    database = open_database(settings)
    database.migrate()
    for expected in (1, 2, 3):
        insert_durably(open_database(settings), [entry()])
        # Every look-up opens the database like this; the pooled connection stays.
        open_database(settings)
        assert counted() == expected
    database.close()
    assert counted() == 3
