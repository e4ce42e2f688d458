"""Insert log entries as rows of the database; an entry that exists already changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec
import sqlalchemy as sa

from bc_pipeline.errors import DataError
from bc_pipeline.prediction_log.database import Database
from bc_pipeline.prediction_log.entry import LogEntry
from bc_pipeline.prediction_log.frames import AnyEntry, EncryptedEntry
from bc_pipeline.prediction_log.pauses import INSERTED, in_parts
from bc_pipeline.prediction_log.tables import predictions

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


# Executed for each row; SQLite prepares it once.
_SQLITE = _statement(f"VALUES ({', '.join('?' for _ in predictions.columns)})")
_ARRAYS = ", ".join(f"%b::{_TYPES.get(column.name, 'text')}[]" for column in predictions.columns)
# One statement for all rows, each column as an array: three times as fast as one per row.
_POSTGRES = _statement(" ".join(("SELECT * FROM unnest(", _ARRAYS, ")")))


def insert(
    connection: sa.Connection, records: Sequence[AnyEntry], *, with_pauses: bool = False
) -> None:
    """Insert entries within the connection's transaction."""
    # Sorted by id, so that concurrent transactions lock rows in the same order.
    in_order = sorted(records, key=attrgetter("id"))
    for part in in_parts(in_order, INSERTED) if with_pauses else filter(None, [in_order]):
        rows = [_row_of(record) for record in part]
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(_SQLITE, rows)
        else:
            connection.exec_driver_sql(_POSTGRES, tuple(map(list, zip(*rows, strict=True))))


def insert_durably(
    database: Database, records: Sequence[AnyEntry], *, with_pauses: bool = False
) -> list[AnyEntry]:
    """Insert entries durably, and return those that the database rejects.

    Parameters
    ----------
    with_pauses : bool
        Whether to leave the processor to others now and then, within the transaction.

    Raises
    ------
    RecordsAway
        None or a part of them was inserted: trying again is safe.
    """
    try:
        with database.write_transaction() as connection:
            insert(connection, records, with_pauses=with_pauses)
    except DataError:
        if len(records) == 1:
            return list(records)
        half = len(records) // 2
        return insert_durably(database, records[:half]) + insert_durably(database, records[half:])
    return []


def _row_of(record: AnyEntry) -> tuple[Any, ...]:
    """Return the values of a row in the order of the columns."""
    if isinstance(record, LogEntry):
        *answer, features, sample_id = msgspec.structs.astuple(record)
        row = (*answer, features, False, sample_id)
    else:
        row = (*msgspec.structs.astuple(record), True, None)
    # PostgreSQL cannot store NUL in text.
    return tuple(
        value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
        for value in row
    )


def entry_of_row(row: sa.Row[Any]) -> AnyEntry:
    """Return the entry that was inserted as a row of the predictions."""
    *fields, sealed, sample_id = row[: len(predictions.columns)]
    return EncryptedEntry(*fields) if sealed else LogEntry(*(*fields, sample_id))
