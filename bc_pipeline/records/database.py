"""The records database, SQLite or PostgreSQL: connections, migrations, and its errors as ours.

The service imports this only when a request asks for a stored record.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
NEWER = "newer-release"
_BUSY_SECONDS = 5
# An unreachable server must not hold a request, or the drainer, for longer than this.
_CONNECT_SECONDS = 2
_STATEMENT_MS = 20_000
# Any number will do that nobody else uses as a lock in the same database.
_MIGRATION_LOCK = 0x62635F7265636F72
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """Connections to one database; threads may share it.

    Parameters
    ----------
    schema : str
        Where the tables of one problem stand in PostgreSQL, so that several may share it.

    Attributes
    ----------
    last_error : str
        Code of the last error that made it `RecordsAway`.
    """

    def __init__(self, url: sa.URL, schema: str) -> None:
        self.last_error = ""
        self._schema = schema
        self.is_sqlite = url.get_backend_name() == "sqlite"
        arguments: dict[str, Any]
        if self.is_sqlite:
            arguments = {"timeout": _BUSY_SECONDS}
        else:
            arguments = {
                "connect_timeout": _CONNECT_SECONDS,
                "tcp_user_timeout": 1000 * _BUSY_SECONDS,
                "options": f"-c statement_timeout={_STATEMENT_MS} -c search_path={schema}",
            }
        # Features are in the parameters of statements: they must not get into messages.
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

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads.

        Raises
        ------
        RecordsAway
        """
        with self._errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes: durable when the block has ended, or nothing of it.

        Raises
        ------
        RecordsAway
        DataError
            Where the database refuses a row for what is in it.
        """
        with (
            self._errors(),
            self.engine.connect().execution_options(bc_writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def one_moment(self) -> Iterator[sa.Connection]:
        """A transaction that only reads, and sees one moment however long it takes.

        Raises
        ------
        RecordsAway
        """
        with self._errors(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with connection.begin():
                yield connection

    def migrate(self, target: str = "head") -> None:
        """Bring the tables up to this release, or to a migration; several may try at once.

        Raises
        ------
        RecordsAway
        """
        from alembic import command
        from alembic.util import CommandError

        config = _alembic()
        with self.writing() as connection:
            if not self.is_sqlite:
                # SQLite has its one write lock already.
                connection.execute(
                    sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK}
                )
                # Making one needs a right that the user of one that is there need not have.
                if not sa.inspect(connection).has_schema(self._schema):
                    connection.execute(sa.schema.CreateSchema(self._schema))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, target)
            except CommandError:
                # Its tables are at a migration that is not among ours.
                self.last_error = NEWER
                raise RecordsAway(
                    "The records database was made by a newer release.",
                    "Run that release, or name another database in BC_RECORDS_URL.",
                    reason=NEWER,
                ) from None

    def revision(self) -> str:
        """The migration that the tables are at; asking it also shows that they answer.

        Raises
        ------
        RecordsAway
            Also where there are no tables yet.
        """
        with self.reading() as connection:
            return str(
                connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
            )

    def has_tables(self) -> bool:
        """Whether migrations ever made tables here.

        Raises
        ------
        RecordsAway
        """
        with self.reading() as connection:
            schema = None if self.is_sqlite else self._schema
            return sa.inspect(connection).has_table("alembic_version", schema=schema)

    def close(self) -> None:
        """End the connections; the next use makes new ones."""
        self.engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (exc.DataError, exc.IntegrityError) as error:
            raise DataError(f"The records database refuses a row ({_code(error)}).") from None
        except exc.SQLAlchemyError as error:
            raise self._away(error) from None

    def _away(self, error: exc.SQLAlchemyError) -> RecordsAway:
        """The driver's error as ours: its text may hold values, and its code is no caller's."""
        self.last_error = _code(error)
        return RecordsAway(
            "The records database does not answer as it should.",
            "See that it runs, can be reached and has room; what waits for it is kept.",
            reason=self.last_error,
        )


def open_database(settings: Settings) -> Database:
    """The database that the settings name; it connects when it is first used.

    Raises
    ------
    ConfigError
        Where the address cannot be read.
    """
    secret = settings.records_url
    schema = "bc_" + re.sub("[^a-z0-9_]", "_", settings.service_problem)
    if secret is None:
        path = make_directory(settings.records) / FILE_NAME
        _make_file(path)
        return _opened(sa.URL.create("sqlite", database=str(path)), schema)
    try:
        url = sa.make_url(secret.get_secret_value())
    except exc.ArgumentError:
        raise ConfigError(
            "BC_RECORDS_URL is not the address of a database.",
            "Write it as postgresql://user:password@host/database, or sqlite:////path/to/file.",
            setting="BC_RECORDS_URL",
        ) from None
    if url.get_backend_name() == "sqlite":
        return _opened(url, schema)
    return _opened(url.set(drivername="postgresql+psycopg"), schema)


def newest_migration() -> str:
    """The migration that `Database.migrate` leads to."""
    from alembic.script import ScriptDirectory

    return str(ScriptDirectory.from_config(_alembic()).get_current_head())


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def file_database(path: Path) -> Database:
    """The database in an SQLite file, which is made where it is missing."""
    _make_file(path)
    return Database(sa.URL.create("sqlite", database=str(path)), "")


def _make_file(path: Path) -> None:
    """Make the file with the mode that SQLite then gives the files beside it.

    One that is there is not opened: closing it would drop every lock that this process holds
    on it, and the next to close the database would take its write-ahead log away.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))


@lru_cache(maxsize=8)
def _opened(url: sa.URL, schema: str) -> Database:
    return Database(url, schema)


def _code(error: exc.SQLAlchemyError) -> str:
    """SQLSTATE or SQLite's name of an error, or that of its class."""
    original = error.orig if isinstance(error, exc.DBAPIError) else None
    state = getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None)
    return str(state or type(original or error).__name__)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver would begin transactions late, as readers, and fail to make them writers.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        # What retention removes is overwritten, not merely unlinked.
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("bc_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
