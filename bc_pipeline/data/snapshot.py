"""Datasets: immutable sets of all rows that had arrived by a time, named by their digest."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import structlog

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import (
    file_state,
    locked,
    sha256_bytes,
    write_atomic,
)
from bc_pipeline.artifacts.signed_document import read_signed_document, write_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.erasure_notes import erasures_of, valid_sha256
from bc_pipeline.data.near_twins import find_repeats, policy_digest
from bc_pipeline.data.rows import encode_rows, read_only, read_rows, rows_digest
from bc_pipeline.data.rows_as_of import rows_as_of
from bc_pipeline.errors import ArtifactCorrupt, NotStored
from bc_pipeline.problems.base import Problem
from bc_pipeline.sample_metadata import SampleMetadata


class DatasetDocument(Document, frozen=True, kw_only=True):
    """An immutable set of labelled rows.

    The same rows may come from several as-of times and lists of batches, so the document
    has neither.

    Attributes
    ----------
    dataset : str
        Name: the first 16 hex digits of `sha256`.
    sha256 : str
        Over the schema, keys, label codes, exact values and metadata (`rows_digest`).
    parquet_sha256 : str
        Of the stored file, which also has the ids.
    near_twins : str
        Digest of the near-twin policy by which the rows have one row of each group; empty in
        documents of earlier releases, whose rows may have several.
    """

    format: int = 1
    dataset: str
    problem: str
    sha256: str
    schema_fingerprint: str
    rows: int
    positive_rows: int
    parquet_sha256: str
    near_twins: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A dataset, and the batches that it was made of in this call."""

    document: DatasetDocument
    batches: tuple[str, ...]
    near_repeats: int
    bridging: int


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
    groups : tuple of str, length n, optional
        Key of the first row of each row's group of near-twins; None where that is the row itself.
    metadata : SampleMetadata
        Declared columns beside the features.
    repeats : frozenset of str
        Keys of rows that are near-twins of another row, and so on no side of a split; only
        datasets of earlier releases have such rows.
    erasures : tuple of str
        Names of the notes of rows that were erased from the dataset: nothing can be trained on it
        any more.
    """

    digest: str
    keys: tuple[str, ...]
    ids: tuple[str, ...]
    values: np.ndarray
    positive: np.ndarray
    groups: tuple[str, ...] | None = None
    repeats: frozenset[str] = frozenset()
    erasures: tuple[str, ...] = ()
    metadata: SampleMetadata = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)


def make_snapshot(problem: Problem, store: Store, as_of: str) -> Snapshot:
    """Store the rows as of a time as a dataset; the same rows are the same dataset.

    Raises
    ------
    NothingAsOf
    ArtifactCorrupt
        Where a batch, or the same dataset stored earlier, differs from its digest.
    """
    began = time.monotonic()
    rows = rows_as_of(problem, store, as_of)
    sha256 = rows_digest(problem.schema.fingerprint, rows)
    name = sha256[:16]
    with locked(store.lock(store.datasets)):
        if store.dataset_document(name).exists():
            document = _load_document_and_dataset(problem, store, name)[0]
        else:
            data = encode_rows(problem, rows)
            document = DatasetDocument(
                dataset=name,
                problem=problem.name,
                sha256=sha256,
                schema_fingerprint=problem.schema.fingerprint,
                rows=len(rows),
                positive_rows=int(problem.labels.to_positive(rows.codes).sum()),
                parquet_sha256=sha256_bytes(data),
                near_twins=policy_digest(problem.near_twins),
            )
            write_atomic(store.dataset_rows(name), data)
            write_signed_document(store, store.dataset_document(name), document)
    structlog.get_logger().info(
        "snapshot made",
        problem=document.problem,
        dataset=document.dataset,
        rows=document.rows,
        positive_rows=document.positive_rows,
        batches=len(rows.batches),
        near_repeats=rows.near_repeats,
        bridging=rows.bridging,
        as_of=rows.as_of,
        seconds=round(time.monotonic() - began, 3),
    )
    return Snapshot(document, rows.batches, rows.near_repeats, rows.bridging)


def load_dataset(problem: Problem, store: Store, digest: str) -> Dataset:
    """Read a stored dataset by its name, and verify it.

    The last dataset is cached in memory, and returned again while its files are the same.

    Raises
    ------
    NotStored
        Where there is no such dataset.
    ArtifactCorrupt
        Where its bytes or its rows differ from its document.
    """
    return _load_document_and_dataset(problem, store, digest)[1]


def _load_document_and_dataset(
    problem: Problem, store: Store, name: str
) -> tuple[DatasetDocument, Dataset]:
    return _read_dataset(
        problem,
        store,
        name,
        (
            file_state(store.dataset_document(name)),
            file_state(store.dataset_rows(name)),
            *(file_state(path) for path in store.erasures.glob("[!.]*.json")),
        ),
    )


@lru_cache(maxsize=1)
def _read_dataset(
    problem: Problem,
    store: Store,
    name: str,
    _states: tuple[tuple[int, ...] | None, ...],
) -> tuple[DatasetDocument, Dataset]:
    try:
        document = read_signed_document(store, store.dataset_document(name), DatasetDocument)
    except NotStored:
        raise NotStored(
            f"There is no dataset {name!r} of {problem.name}.", "Make it with a snapshot."
        ) from None
    path = store.dataset_rows(name)
    rows = read_rows(problem, path, valid_sha256(store, path, document.parquet_sha256))
    erasures = erasures_of(store, path)
    if document.dataset != name or (
        not erasures and rows_digest(document.schema_fingerprint, rows) != document.sha256
    ):
        raise ArtifactCorrupt(
            f"The rows of dataset {name} are not those of its digest.", path=str(path)
        )
    dataset = Dataset(
        digest=document.dataset,
        keys=rows.keys,
        ids=rows.ids,
        values=read_only(rows.values),
        positive=read_only(problem.labels.to_positive(rows.codes)),
        groups=rows.groups,
        repeats=(
            frozenset()
            if document.near_twins == policy_digest(problem.near_twins)
            else find_repeats(problem.near_twins, rows.keys, rows.values)
        ),
        erasures=erasures,
        metadata=rows.metadata,
    )
    return document, dataset
