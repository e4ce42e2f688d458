"""Stored batches: immutable rows, and a JSON document; a batch exists once it has its document."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

import msgspec

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.signed_document import read_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import parse_time
from bc_pipeline.data.erasure_notes import valid_sha256
from bc_pipeline.data.rows import LabelledRows, read_rows
from bc_pipeline.errors import ArtifactCorrupt, ConfigError, NotStored
from bc_pipeline.problems.base import Problem

_NAME = re.compile("[0-9a-f]{16}")


class DefectDocument(Document, frozen=True):
    """A `Defect` in a batch's document."""

    line: int | None
    column: str | None
    reason: str


class BatchDocument(Document, frozen=True, kw_only=True):
    """One ingested file; ``accepted + quarantined == read`` always holds.

    Attributes
    ----------
    batch : str
        First 16 hex digits of `source_sha256`: the same file is the same batch.
    source : str
        Name of the file, without its folder.
    arrived_at : str
        ISO 8601, UTC: snapshots as of this time or later include the rows.
    dialect : str
        How the file names its columns.
    reasons : dict of str to int
        Number of rows rejected for each reason; a row may have several.
    problems : tuple of DefectDocument
        The first defects; the quarantine file lists all.
    parquet_sha256 : str
        Of the stored accepted rows.
    repeats : int
        Accepted rows of samples that earlier batches have; a snapshot takes none of them while
        it has the earlier batch. 0 in documents of earlier releases, which did not count them.
    near_repeats : int
        Those of `repeats` at another precision.
    number : int
        Of the batches of a volume, in the order in which they were made: a near-twin belongs to a
        row of a batch with a lower number. 0 in documents of earlier releases.
    notices : tuple of str
        Columns that were passed over.
    label_codes : dict of str to str
        What the label codes of the file mean; empty where it has words, and in documents of
        earlier releases.
    check : {"required", ""}
        Required: the batch counts only once its history has a check that lets it. Empty in
        documents of earlier releases.
    """

    format: int = 1
    batch: str
    problem: str
    source: str
    source_sha256: str
    arrived_at: str
    dialect: str
    schema_fingerprint: str
    read: int
    accepted: int
    quarantined: int
    reasons: dict[str, int]
    problems: tuple[DefectDocument, ...]
    parquet_sha256: str
    repeats: int = 0
    near_repeats: int = 0
    notices: tuple[str, ...] = ()
    label_codes: dict[str, str] = msgspec.field(default_factory=dict)
    number: int = 0
    check: Literal["required", ""] = ""

    @property
    def arrival(self) -> datetime:
        """`arrived_at` as a time; earlier releases took any time, also years before 1000.

        Raises
        ------
        ArtifactCorrupt
        """
        try:
            # Earlier releases wrote the year without leading zeros.
            return parse_time(self.arrived_at.zfill(len("2026-11-15T00:00:00Z")))
        except ConfigError:
            raise ArtifactCorrupt(
                f"Batch {self.batch} of {self.problem} did not arrive at a time.",
                "Restore its document from a backup.",
            ) from None


def find_batch(store: Store, batch: str) -> BatchDocument | None:
    """The document of a batch, or None where there is no such batch (yet)."""
    if not _NAME.fullmatch(batch):
        return None
    try:
        return read_signed_document(store, store.batch_document(batch), BatchDocument)
    except NotStored:
        return None


def list_batches(store: Store) -> list[BatchDocument]:
    """All batches, by time of arrival, then by name."""
    batches = [
        read_signed_document(store, path, BatchDocument) for path in store.batches.glob("*.json")
    ]
    return sorted(batches, key=lambda batch: (batch.arrival, batch.batch))


def read_batch(problem: Problem, store: Store, batch: BatchDocument) -> LabelledRows:
    """The accepted rows of a batch, in the order of the file, without those that were erased.

    Raises
    ------
    ArtifactCorrupt
        Where the stored bytes are missing, or differ from the document's digest.
    """
    path = store.batch_rows(batch.batch)
    return read_rows(problem, path, valid_sha256(store, path, batch.parquet_sha256))
