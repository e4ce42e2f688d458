"""A database of records as one SQLite file, and such a file as a database, of either kind.

SQLite is copied by its own backup, page by page. The rows of PostgreSQL are read in one
transaction and written to a new SQLite file with the same tables, which the migrations make:
nothing else is in our schema. So a copy needs no program of the server's release, no password
leaves this process, and what was SQLite may come back as PostgreSQL.
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
from bc_pipeline.records.database import Database, file_database, open_database
from bc_pipeline.settings import Settings

TABLES = ("predictions", "outcomes")
_ROWS = 5_000
_PAGES = 4_096
_BUSY_SECONDS = 60.0
_SPARE_BYTES = 64 << 20
Tell = Callable[[float | None], None]


def _silent(_: float | None) -> None:
    return


def copy_sqlite(source: Path, target: Path, tell: Tell = _silent) -> None:
    """Copy an SQLite database as of one moment, while others write to it.

    Parameters
    ----------
    target : Path
        A new file: without write-ahead log, and checked.
    tell : callable
        Is given the share that is copied.

    Raises
    ------
    ConfigError
        Where the copy would fill the volume that it is written to.
    RecordsAway
        Where it cannot be read, or is damaged.
    """
    _require_room(source, target.parent)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))

    def copied(_: int, remaining: int, total: int) -> None:
        tell(1 - remaining / total if total else 1.0)

    try:
        address = f"{source.absolute().as_uri()}?mode=rw"
        with (
            closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)) as read,
            closing(sqlite3.connect(target)) as written,
        ):
            read.isolation_level = None
            # Within a transaction every step sees the same moment; otherwise each write of
            # another process would make the copy begin anew.
            read.execute("BEGIN")
            read.execute("SELECT count(*) FROM sqlite_master").fetchone()
            read.backup(written, pages=_PAGES, progress=copied)
            read.execute("COMMIT")
            written.execute("PRAGMA journal_mode=DELETE")
            found = written.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise RecordsAway(
            f"The database {source.name} cannot be copied.",
            "See that it is whole: sqlite3 FILE 'PRAGMA integrity_check'.",
            reason=getattr(error, "sqlite_errorname", type(error).__name__),
        ) from None
    if found != "ok":
        raise RecordsAway(f"The database {source.name} is damaged: {found}.", reason="damaged")


def _require_room(source: Path, folder: Path) -> None:
    """See that a copy leaves room: the log of predictions may stand on the same volume."""
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
    """The SQLite file that BC_RECORDS_URL names; None where it names no file."""
    secret = settings.records_url
    if secret is None or not secret.get_secret_value().startswith("sqlite"):
        return None
    return Path(str(open_database(settings).engine.url.database)).absolute()


def snapshot(settings: Settings, target: Path, tell: Tell = _silent) -> str | None:
    """Write the records database as of one moment to a new SQLite file.

    Returns
    -------
    str or None
        Kind and migration of what was read, such as ``postgresql 0001``; None where there is
        no database yet.

    Raises
    ------
    RecordsAway
    """
    database = open_database(settings)
    try:
        if not database.has_tables():
            return None
        revision = database.revision()
        if database.is_sqlite:
            copy_sqlite(Path(str(database.engine.url.database)), target, tell)
        else:
            _write_rows(database, revision, target)
        return f"{database.engine.dialect.name} {revision}"
    finally:
        database.close()


def _write_rows(database: Database, revision: str, target: Path) -> None:
    with _file(target) as copy:
        copy.migrate(revision)
        with database.one_moment() as source, copy.writing() as sink:
            _copy_rows(source, sink)


@contextmanager
def loading(settings: Settings, source: Path) -> Iterator[str]:
    """Put the rows of a copy into the database that the settings name, durably at the end.

    What the block does is done before that: where it fails, the database has no row.

    Yields
    ------
    str
        ``sqlite`` or ``postgresql``.

    Raises
    ------
    ConfigError
        Where the database holds records already.
    RecordsAway
    """
    database = open_database(settings)
    try:
        require_empty(database)
        database.migrate()
        with database.writing() as sink:
            with _file(source) as copy:
                copy.migrate()
                with copy.reading() as rows:
                    _copy_rows(rows, sink)
            if not database.is_sqlite:
                sink.execute(
                    sa.text(
                        "SELECT setval(pg_get_serial_sequence('outcomes', 'seq'), "
                        "(SELECT coalesce(max(seq), 0) + 1 FROM outcomes), false)"
                    )
                )
            yield database.engine.dialect.name
    finally:
        database.close()


def require_empty(database: Database) -> None:
    """See that a database holds no records.

    Raises
    ------
    ConfigError
    RecordsAway
    """
    if not database.has_tables():
        return
    with database.reading() as connection:
        for name in TABLES:
            rows = sa.select(sa.literal(1)).select_from(sa.table(name))
            if connection.execute(sa.select(rows.exists())).scalar_one():
                raise ConfigError(
                    "The database that BC_RECORDS_URL names holds records already.",
                    "Name an empty database, or drop the schema of the problem there.",
                    setting="BC_RECORDS_URL",
                )


@contextmanager
def _file(path: Path) -> Iterator[Database]:
    database = file_database(path)
    try:
        yield database
    finally:
        database.close()


def _copy_rows(source: sa.Connection, sink: sa.Connection) -> None:
    """Every row of every table; the tables of both are at the same migration."""
    for name in TABLES:
        table = sa.Table(name, sa.MetaData(), autoload_with=source)
        into = sa.Table(name, sa.MetaData(), autoload_with=sink)
        rows = source.execution_options(yield_per=_ROWS).execute(sa.select(table))
        for part in rows.mappings().partitions():
            sink.execute(sa.insert(into), [dict(row) for row in part])
