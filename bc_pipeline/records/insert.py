"""Records of the log as rows of the database; a record that is there already changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from bc_pipeline.errors import DataError
from bc_pipeline.records.database import Database
from bc_pipeline.records.entry import Entry
from bc_pipeline.records.frames import Logged
from bc_pipeline.records.tables import predictions

_TYPES = {
    "at": "float8",
    "probability": "float8",
    "latency": "float8",
    "positive": "bool",
    "sealed": "bool",
    "features": "bytea",
}


def _statement(values: str) -> str:
    names = ", ".join(column.name for column in predictions.columns)
    return " ".join(
        ("INSERT INTO predictions", f"({names})", values, "ON CONFLICT (id) DO NOTHING")
    )


# One statement for each row, which SQLite prepares once.
_SQLITE = _statement(f"VALUES ({', '.join('?' for _ in predictions.columns)})")
_ARRAYS = ", ".join(f"%b::{_TYPES.get(column.name, 'text')}[]" for column in predictions.columns)
# One statement for all rows, with each column as an array: three times as fast.
_POSTGRES = _statement(" ".join(("SELECT * FROM unnest(", _ARRAYS, ")")))


def insert(connection: sa.Connection, records: Sequence[Logged]) -> None:
    """Insert records, within the transaction that the connection is in."""
    # In the order of ids, so that two transactions wait for each other in one direction only.
    rows = sorted(map(_row_of, records), key=lambda row: row[0])
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_SQLITE, rows)
    else:
        connection.exec_driver_sql(_POSTGRES, tuple(map(list, zip(*rows, strict=True))))


def store(database: Database, records: Sequence[Logged]) -> list[Logged]:
    """Insert records durably, and return those that the database refuses.

    Raises
    ------
    RecordsAway
        Nothing was inserted, or only a part: trying again does no harm.
    """
    try:
        with database.writing() as connection:
            insert(connection, records)
    except DataError:
        if len(records) == 1:
            return list(records)
        half = len(records) // 2
        return store(database, records[:half]) + store(database, records[half:])
    return []


def _row_of(record: Logged) -> tuple[Any, ...]:
    """Values of a row, in the order of the columns."""
    if isinstance(record, Entry):
        sample_id = record.sample_id
        features, sealed = record.values, False
    else:
        sample_id = None
        features, sealed = record.box, True
    return (
        record.id,
        record.at,
        _text(record.version),
        _text(record.manifest_sha256),
        record.probability,
        record.positive,
        record.latency,
        _text(record.caller),
        _text(record.route),
        features,
        sealed,
        None if sample_id is None else _text(sample_id),
    )


def _text(value: str) -> str:
    """PostgreSQL stores no zero character in a text."""
    return value if "\0" not in value else value.replace("\0", "\N{REPLACEMENT CHARACTER}")
