"""Copy a records database to an SQLite file, and load such a file into a database.

SQLite is copied by its own backup API, page by page. The rows of PostgreSQL are read in one
transaction and written to an SQLite file with the same tables. So a copy needs no client
program of the server's release, no password leaves this process, and a copy of either kind can
be loaded into either kind.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from bc_pipeline.artifacts.files import FILE_MODE
from bc_pipeline.errors import ConfigError, RecordsAway
from bc_pipeline.prediction_log.database import Database, open_database, open_file_database
from bc_pipeline.settings import Settings

TABLES = ("predictions", "outcomes")
_ROWS = 5_000
_PAGES = 4_096
_BUSY_SECONDS = 60.0
_SPARE_BYTES = 64 << 20
ProgressCallback = Callable[[float], None]


def copy_sqlite(source: Path, target: Path, report: ProgressCallback) -> None:
    """Copy a consistent snapshot of an SQLite database that others may write to.

    Parameters
    ----------
    target : Path
        A new file; it has no write-ahead log, and its integrity is checked.
    report : callable
        Called with the fraction that is copied.

    Raises
    ------
    ConfigError
        Where the copy would fill the volume that it is written to.
    RecordsAway
        Where the source cannot be read or is damaged.
    """
    _require_room(source, target.parent)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))

    def copied(_: int, remaining: int, total: int) -> None:
        report(1 - remaining / total if total else 1.0)

    try:
        address = f"{source.absolute().as_uri()}?mode=rw"
        with (
            closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)) as read,
            closing(sqlite3.connect(target)) as written,
        ):
            read.isolation_level = None
            # The transaction pins a snapshot; without it, each write of another process would
            # restart the backup.
            read.execute("BEGIN")
            read.execute("SELECT count(*) FROM sqlite_master").fetchone()
            read.backup(written, pages=_PAGES, progress=copied)
            read.execute("COMMIT")
            written.execute("PRAGMA journal_mode=DELETE")
            check_result = written.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise RecordsAway(
            f"The database {source.name} cannot be copied.",
            "See that it is whole: sqlite3 FILE 'PRAGMA integrity_check'.",
            reason=getattr(error, "sqlite_errorname", type(error).__name__),
        ) from None
    if check_result != "ok":
        raise RecordsAway(
            f"The database {source.name} is damaged: {check_result}.", reason="damaged"
        )


def _require_room(source: Path, folder: Path) -> None:
    """Require spare room beside the copy: the prediction log may share the volume."""
    parts = (source, source.with_name(f"{source.name}-wal"))
    needed = sum(part.stat().st_size for part in parts if part.exists())
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise ConfigError(
            f"A copy of {source.name} needs {needed >> 20} MiB in {folder} for a while, and "
            f"there is not that much room: {free >> 20} MiB are free.",
            "Free space, or enlarge the volume.",
            setting="home",
        )


def database_file(settings: Settings) -> Path | None:
    """Return the SQLite file of BC_RECORDS_URL; None where it names no file."""
    secret = settings.records_url
    if secret is None or not secret.get_secret_value().startswith("sqlite"):
        return None
    return Path(str(open_database(settings).engine.url.database)).absolute()


def copy_database(settings: Settings, target: Path, report: ProgressCallback) -> str | None:
    """Write a consistent snapshot of the records database to a new SQLite file.

    Returns
    -------
    str or None
        Kind and revision of the source, such as ``postgresql 0001``; None where it has no
        tables yet.

    Raises
    ------
    RecordsAway
    """
    with closing(open_database(settings)) as database:
        if not database.has_tables():
            return None
        revision = database.revision()
        if database.is_sqlite:
            copy_sqlite(Path(str(database.engine.url.database)), target, report)
        else:
            with closing(open_file_database(target)) as copy:
                copy.migrate(revision)
                with database.snapshot_transaction() as source, copy.write_transaction() as sink:
                    _copy_rows(source, sink)
        return f"{database.engine.dialect.name} {revision}"


@contextmanager
def load_copy(settings: Settings, source: Path) -> Iterator[str]:
    """Load the rows of a copy into the configured database; commit after the block.

    Where the block raises, nothing is loaded.

    Yields
    ------
    str
        ``sqlite`` or ``postgresql``.

    Raises
    ------
    ConfigError
        Where the database holds predictions already.
    RecordsAway
    """
    with closing(open_database(settings)) as database:
        _require_empty(database)
        database.migrate()
        with database.write_transaction() as sink:
            with closing(open_file_database(source)) as copy:
                copy.migrate()
                with copy.read_transaction() as rows:
                    _copy_rows(rows, sink)
            if not database.is_sqlite:
                sink.execute(
                    sa.text(
                        "SELECT setval(pg_get_serial_sequence('outcomes', 'seq'), "
                        "(SELECT coalesce(max(seq), 0) + 1 FROM outcomes), false)"
                    )
                )
            yield database.engine.dialect.name


def _require_empty(database: Database) -> None:
    """Require that a database holds no predictions.

    Raises
    ------
    ConfigError
    RecordsAway
    """
    if not database.has_tables():
        return
    with database.read_transaction() as connection:
        for name in TABLES:
            rows = sa.select(sa.literal(1)).select_from(sa.table(name))
            if connection.execute(sa.select(rows.exists())).scalar_one():
                raise ConfigError(
                    "The database that BC_RECORDS_URL names holds records already.",
                    "Name an empty database, or drop the schema of the problem there.",
                    setting="BC_RECORDS_URL",
                )


def _copy_rows(source: sa.Connection, sink: sa.Connection) -> None:
    """Copy every row; both databases are at the same revision."""
    for name in TABLES:
        table = sa.Table(name, sa.MetaData(), autoload_with=source)
        target_table = sa.Table(name, sa.MetaData(), autoload_with=sink)
        rows = source.execution_options(yield_per=_ROWS).execute(sa.select(table))
        for part in rows.mappings().partitions():
            sink.execute(sa.insert(target_table), [dict(row) for row in part])
