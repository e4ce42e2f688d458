"""Datasets: all rows that had arrived by a time, immutable, named by their digest."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bc_pipeline.artifacts.files import (
    locked,
    read_record,
    read_verified,
    sha256_bytes,
    write_atomic,
    write_record,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time, parse_time
from bc_pipeline.data.batches import list_batches, read_batch
from bc_pipeline.data.records import DatasetRecord
from bc_pipeline.data.rows import (
    LabelledRows,
    decode_rows,
    encode_rows,
    join_rows,
    rows_digest,
)
from bc_pipeline.errors import ArtifactCorrupt, NothingAsOf, NotStored
from bc_pipeline.problems.base import Problem

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Rows(LabelledRows):
    """All accepted rows as of a time, each row once, sorted by key.

    Attributes
    ----------
    batches : tuple of str
        The batches that had arrived, by time of arrival.
    as_of : str
        ISO 8601, UTC.
    """

    batches: tuple[str, ...]
    as_of: str


@dataclass(frozen=True)
class Snapshot:
    """A dataset, and the batches and as-of time that led to it this time."""

    record: DatasetRecord
    batches: tuple[str, ...]
    as_of: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """The rows of a stored dataset, sorted by key.

    Attributes
    ----------
    digest : str
        The dataset's name.
    keys, ids : tuple of str, length n
    values : array of float64, shape (n, n_features)
    positive : array of int8, shape (n,)
        1 where the row is of the positive class.
    """

    digest: str
    keys: tuple[str, ...]
    ids: tuple[str, ...]
    values: np.ndarray
    positive: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


def rows_as_of(problem: Problem, store: Store, as_of: str) -> Rows:
    """Gather the rows of every batch that had arrived by `as_of`, that moment included.

    A row that several batches hold counts once, as the batch that arrived first tells it.

    Raises
    ------
    NothingAsOf
        Where no batch had arrived.
    ArtifactCorrupt
        Where a batch's bytes differ from its record.
    """
    moment = parse_time(as_of)
    records = [record for record in list_batches(store) if parse_time(record.arrived_at) <= moment]
    if not records:
        raise NothingAsOf(
            f"No accepted rows of {problem.name} had arrived by {format_time(moment)}.",
            "Land a labelled file and ingest it, or choose a later time.",
            as_of=format_time(moment),
        )
    every = join_rows([read_batch(problem, store, record) for record in records])
    first: dict[str, int] = {}
    known_id: dict[str, str] = {}
    for position, (key, name) in enumerate(zip(every.keys, every.ids, strict=True)):
        first.setdefault(key, position)
        if name:
            known_id.setdefault(key, name)
    rows = every.take(first[key] for key in sorted(first))
    return Rows(
        keys=rows.keys,
        ids=tuple(known_id.get(key, "") for key in rows.keys),
        values=rows.values,
        codes=rows.codes,
        batches=tuple(record.batch for record in records),
        as_of=format_time(moment),
    )


def make_snapshot(problem: Problem, store: Store, as_of: str) -> Snapshot:
    """Store the rows as of a time as a dataset; the same rows are the same dataset.

    Raises
    ------
    NothingAsOf
    ArtifactCorrupt
        Where a batch, or this dataset as it is stored already, differs from its digest.
    """
    began = time.monotonic()
    rows = rows_as_of(problem, store, as_of)
    sha256 = rows_digest(problem.schema.fingerprint, rows)
    name = sha256[:16]
    with locked(store.datasets_lock):
        if store.dataset_record(name).exists():
            record, _ = _read_dataset(problem, store, name)
        else:
            data = encode_rows(problem, rows)
            record = DatasetRecord(
                dataset=name,
                problem=problem.name,
                sha256=sha256,
                schema_fingerprint=problem.schema.fingerprint,
                rows=len(rows),
                positive_rows=int(problem.labels.to_positive(rows.codes).sum()),
                parquet_sha256=sha256_bytes(data),
            )
            write_atomic(store.dataset_rows(name), data)
            write_record(store.dataset_record(name), record)
    _log(record, rows, time.monotonic() - began)
    return Snapshot(record, rows.batches, rows.as_of)


def load_dataset(problem: Problem, store: Store, digest: str) -> Dataset:
    """Read a stored dataset by its name, and verify it.

    Raises
    ------
    NotStored
        Where there is no such dataset.
    ArtifactCorrupt
        Where its bytes or its rows differ from its record.
    """
    record, rows = _read_dataset(problem, store, digest)
    return Dataset(
        digest=record.dataset,
        keys=rows.keys,
        ids=rows.ids,
        values=rows.values,
        positive=problem.labels.to_positive(rows.codes),
    )


def _read_dataset(problem: Problem, store: Store, name: str) -> tuple[DatasetRecord, LabelledRows]:
    try:
        record = read_record(store.dataset_record(name), DatasetRecord)
    except NotStored:
        raise NotStored(
            f"There is no dataset {name!r} of {problem.name}.", "Make it with a snapshot."
        ) from None
    path = store.dataset_rows(name)
    rows = decode_rows(problem, read_verified(path, record.parquet_sha256), path)
    if record.dataset != name or rows_digest(record.schema_fingerprint, rows) != record.sha256:
        raise ArtifactCorrupt(
            f"The rows of dataset {name} are not those that its name stands for.", path=str(path)
        )
    return record, rows


def _log(record: DatasetRecord, rows: Rows, seconds: float) -> None:
    import structlog

    structlog.get_logger().info(
        "snapshot made",
        problem=record.problem,
        dataset=record.dataset,
        rows=record.rows,
        positive_rows=record.positive_rows,
        batches=len(rows.batches),
        as_of=rows.as_of,
        seconds=round(seconds, 3),
    )
