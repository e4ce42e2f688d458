"""Stored batches: immutable rows, and a record whose presence makes the batch exist."""

from __future__ import annotations

from bc_pipeline.artifacts.files import read_record, read_verified
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.records import BatchRecord
from bc_pipeline.data.rows import LabelledRows, decode_rows
from bc_pipeline.errors import NotStored
from bc_pipeline.problems.base import Problem


def find_batch(store: Store, batch: str) -> BatchRecord | None:
    """The record of a batch, or None where it does not exist (yet)."""
    try:
        return read_record(store.batch_record(batch), BatchRecord)
    except NotStored:
        return None


def list_batches(store: Store) -> list[BatchRecord]:
    """All batches, by time of arrival, then by name."""
    records = [read_record(path, BatchRecord) for path in store.batches.glob("*.json")]
    return sorted(records, key=lambda record: (record.arrived_at, record.batch))


def read_batch(problem: Problem, store: Store, record: BatchRecord) -> LabelledRows:
    """The accepted rows of a batch, in the order of the file.

    Raises
    ------
    ArtifactCorrupt
        Where the stored bytes are gone, or differ from the record's digest.
    """
    path = store.batch_rows(record.batch)
    return decode_rows(problem, read_verified(path, record.parquet_sha256), path)
