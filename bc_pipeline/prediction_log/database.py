"""The records database, SQLite or PostgreSQL: connections, migrations, translated errors.

The service imports this module only when a request needs a stored prediction.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import exc

from bc_pipeline.artifacts.files import FILE_MODE, make_directory
from bc_pipeline.errors import ConfigError, DataError, RecordsAway
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config

FILE_NAME = "predictions.sqlite"
NEWER_RELEASE = "newer-release"
_BUSY_SECONDS = 5
# The longest that an unreachable server may block a request or the drainer.
_CONNECT_SECONDS = 2
_STATEMENT_MS = 20_000
# An arbitrary number, reserved for this advisory lock.
_MIGRATION_LOCK = 0x62635F7265636F72
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """Connections to one database; threads may share it.

    Parameters
    ----------
    schema : str
        PostgreSQL schema of one problem's tables, so that several problems may share a server.

    Attributes
    ----------
    last_error : str
        Code of the last error that was raised as `RecordsAway`.
    """

    def __init__(self, url: sa.URL, schema: str) -> None:
        self.last_error = ""
        self._schema = schema
        self.is_sqlite = url.get_backend_name() == "sqlite"
        arguments: dict[str, Any] = {"timeout": _BUSY_SECONDS}
        if not self.is_sqlite:
            arguments = {
                "connect_timeout": _CONNECT_SECONDS,
                "tcp_user_timeout": 1000 * _BUSY_SECONDS,
                "options": f"-c statement_timeout={_STATEMENT_MS} -c search_path={schema}",
            }
        # Parameters hold patients' features: error messages must not show them.
        self.engine = sa.create_engine(
            url,
            connect_args=arguments,
            hide_parameters=True,
            pool_size=2,
            pool_pre_ping=not self.is_sqlite,
        )
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)

    def read_transaction(self) -> AbstractContextManager[sa.Connection]:
        """Open a read-only transaction.

        Raises
        ------
        RecordsAway
        """
        return self._transaction()

    def write_transaction(self) -> AbstractContextManager[sa.Connection]:
        """Open a transaction that is durable once the block ends, or rolled back as a whole.

        Raises
        ------
        RecordsAway
        DataError
            Where the database rejects a row because of its content.
        """
        return self._transaction(bc_writes=True)

    def snapshot_transaction(self) -> AbstractContextManager[sa.Connection]:
        """Open a read-only transaction that sees one consistent snapshot, however long it takes.

        Raises
        ------
        RecordsAway
        """
        if self.is_sqlite:
            return self._transaction()
        return self._transaction(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @contextmanager
    def _transaction(self, **options: Any) -> Iterator[sa.Connection]:
        """Open a transaction; a driver's errors lose their texts, which may hold features."""
        try:
            with self.engine.connect() as connection:
                connection.execution_options(**options)
                with connection.begin():
                    yield connection
        except (exc.DataError, exc.IntegrityError) as error:
            raise DataError(f"The records database rejects a row ({_error_code(error)}).") from None
        except exc.SQLAlchemyError as error:
            self.last_error = _error_code(error)
            raise RecordsAway(
                "The records database does not answer as it should.",
                "Check that it runs, can be reached and has room; waiting entries stay in the log.",
                reason=self.last_error,
            ) from None

    def migrate(self, target: str = "head") -> None:
        """Migrate the tables to this release, or to one revision; safe for concurrent callers.

        Raises
        ------
        RecordsAway
        """
        from alembic import command
        from alembic.util import CommandError

        config = _alembic()
        with self.write_transaction() as connection:
            if not self.is_sqlite:
                # SQLite serialises writers by itself.
                connection.execute(
                    sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK}
                )
                # CREATE SCHEMA IF NOT EXISTS would need the right even where it exists.
                if not sa.inspect(connection).has_schema(self._schema):
                    connection.execute(sa.schema.CreateSchema(self._schema))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, target)
            except CommandError:
                # The tables are at a revision that this release does not know.
                self.last_error = NEWER_RELEASE
                raise RecordsAway(
                    "The records database was made by a newer release.",
                    "Run that release, or name another database in BC_RECORDS_URL.",
                    reason=NEWER_RELEASE,
                ) from None

    def revision(self) -> str:
        """Return the revision of the tables; this also shows that the database answers.

        Raises
        ------
        RecordsAway
            Also where there are no tables yet.
        """
        with self.read_transaction() as connection:
            return str(
                connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
            )

    def has_tables(self) -> bool:
        """Return whether the tables exist.

        Raises
        ------
        RecordsAway
        """
        with self.read_transaction() as connection:
            schema = None if self.is_sqlite else self._schema
            return sa.inspect(connection).has_table("alembic_version", schema=schema)

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self.engine.dispose()


def open_database(settings: Settings) -> Database:
    """Return the database of the settings; it connects on first use.

    Raises
    ------
    ConfigError
        Where the address is malformed.
    """
    secret = settings.records_url
    schema = "bc_" + re.sub("[^a-z0-9_]", "_", settings.service_problem)
    if secret is None:
        path = make_directory(settings.records) / FILE_NAME
        _create_file(path)
        return _cached_database(sa.URL.create("sqlite", database=str(path)), schema)
    try:
        url = sa.make_url(secret.get_secret_value())
    except exc.ArgumentError:
        raise ConfigError(
            "BC_RECORDS_URL is not the address of a database.",
            "Write it as postgresql://user:password@host/database, or sqlite:////path/to/file.",
            setting="BC_RECORDS_URL",
        ) from None
    if url.get_backend_name() != "sqlite":
        url = url.set(drivername="postgresql+psycopg")
    return _cached_database(url, schema)


def newest_migration() -> str:
    """Return the revision that `Database.migrate` leads to."""
    from alembic.script import ScriptDirectory

    return str(ScriptDirectory.from_config(_alembic()).get_current_head())


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def open_file_database(path: Path) -> Database:
    """Open the database of an SQLite file, which is created where it is missing."""
    _create_file(path)
    return Database(sa.URL.create("sqlite", database=str(path)), "")


def _create_file(path: Path) -> None:
    """Create the file; SQLite gives its mode to the journal files, too.

    An existing file is not opened: closing any descriptor of it would release every POSIX
    lock of this process on it, and the next connection that closes would delete the
    write-ahead log.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))


_cached_database = lru_cache(maxsize=8)(Database)


def _error_code(error: exc.SQLAlchemyError) -> str:
    """Return the SQLSTATE, SQLite's error name, or the name of the class."""
    original = error.orig if isinstance(error, exc.DBAPIError) else None
    state = getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None)
    return str(state or type(original or error).__name__)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver would begin transactions deferred, and upgrading one to a writer can fail.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        # Rows removed by retention are overwritten on disk.
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("bc_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
