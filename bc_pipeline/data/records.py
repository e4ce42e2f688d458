"""Formats of the JSON records that stand beside stored batches and datasets."""

from __future__ import annotations

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.errors import Defect

BATCH_FORMAT = 1
DATASET_FORMAT = 1
PROBLEMS_SHOWN = 100


class DefectRecord(Record, frozen=True):
    """A `Defect` as a batch's record carries it."""

    line: int | None
    column: str | None
    reason: str

    @classmethod
    def of(cls, defect: Defect) -> DefectRecord:
        return cls(defect.line, defect.column, defect.reason)


class BatchRecord(Record, frozen=True, kw_only=True):
    """What came of one landed file; ``accepted + quarantined == read`` always holds.

    Attributes
    ----------
    batch : str
        First 16 hex digits of `source_sha256`: the same file is the same batch.
    source : str
        Name of the file, without its folder.
    arrived_at : str
        ISO 8601, UTC: from then on the rows are seen by as-of snapshots.
    dialect : str
        How the file names its columns.
    reasons : dict of str to int
        For each reason, how many rows it kept out; a row may have several.
    problems : tuple of DefectRecord
        The first defects; the quarantine file lists all.
    parquet_sha256 : str
        Of the stored accepted rows.
    """

    format: int = BATCH_FORMAT
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
    problems: tuple[DefectRecord, ...]
    parquet_sha256: str


class DatasetRecord(Record, frozen=True, kw_only=True):
    """An immutable set of labelled rows.

    The same rows may come from several as-of times and lists of batches, so neither
    stands here.

    Attributes
    ----------
    dataset : str
        Name: the first 16 hex digits of `sha256`.
    sha256 : str
        Over the schema, keys, label codes and exact values (`rows_digest`).
    parquet_sha256 : str
        Of the stored file, which also carries the ids.
    """

    format: int = DATASET_FORMAT
    dataset: str
    problem: str
    sha256: str
    schema_fingerprint: str
    rows: int
    positive_rows: int
    parquet_sha256: str
