"""The labelled rows that count as of a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from bc_pipeline.artifacts.files import file_state
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time, parse_time
from bc_pipeline.data.batch_history import counting_batches
from bc_pipeline.data.batches import BatchDocument, list_batches
from bc_pipeline.data.chosen_rows import BatchRows, choose_rows
from bc_pipeline.data.erasure_notes import ErasureNote, list_notes, valid_among
from bc_pipeline.data.rows import LabelledRows, read_only, read_rows
from bc_pipeline.errors import ArtifactCorrupt, NothingAsOf, SchemaMismatch
from bc_pipeline.problems.base import Problem


class _BatchFile(NamedTuple):
    batch: str
    order: tuple[int, datetime]
    counts: bool
    sha256: str
    state: tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class RowsAsOf(LabelledRows):
    """All accepted rows as of a time, the first of each group, sorted by key.

    Attributes
    ----------
    batches : tuple of str
        Batches that count, by the time from which they do.
    as_of : str
        ISO 8601, UTC.
    near_repeats : int
        Rows that were left out, because they are near-twins of the first row of a group.
    bridging : int
        Those of `near_repeats` that are near-twins of the first rows of several groups.
    """

    batches: tuple[str, ...]
    as_of: str
    near_repeats: int
    bridging: int


def rows_as_of(problem: Problem, store: Store, as_of: str) -> RowsAsOf:
    """Collect the rows of every batch that had arrived by `as_of` and was not withdrawn by then.

    A row that occurs in several batches comes from the one that arrived first. Of a group of
    near-twins the first row is chosen: by the order in which the batches were made, then by key.
    The rows of the last call are cached in memory, and returned again while the batches' files
    are the same.

    Raises
    ------
    NothingAsOf
        Where no batch had arrived, or no row of one is left.
    ArtifactCorrupt
        Where a batch's bytes differ from its document.
    """
    moment = parse_time(as_of)
    batches = counting_batches(store, moment)
    if not batches:
        raise NothingAsOf(
            f"No accepted rows of {problem.name} had arrived by {format_time(moment)}, other than "
            "withdrawn ones.",
            "Land a labelled file and ingest it, or choose a later time.",
            as_of=format_time(moment),
        )
    notes = list_notes(store)
    counting = {batch.batch for _, batch in batches}
    others = (batch for batch in list_batches(store) if batch.batch not in counting)
    files = (
        *(_batch_file(store, batch, notes, counts=True) for _, batch in batches),
        *(_batch_file(store, batch, notes, counts=False) for batch in others),
    )
    rows = _join_batches(problem, store, files, format_time(moment))
    if not len(rows):
        raise NothingAsOf(
            f"Every row of {problem.name} as of {rows.as_of} was erased.",
            "Land a labelled file and ingest it.",
            as_of=rows.as_of,
        )
    return rows


@lru_cache(maxsize=1)
def _join_batches(
    problem: Problem, store: Store, files: tuple[_BatchFile, ...], as_of: str
) -> RowsAsOf:
    """The rows of batches that count, one of each group of near-twins; read-only."""
    parts = []
    for file in files:
        try:
            rows = read_rows(problem, store.batch_rows(file.batch), file.sha256)
        except (ArtifactCorrupt, SchemaMismatch):
            if file.counts:
                raise
        else:
            parts.append(BatchRows(rows, file.order, file.counts))
    chosen = choose_rows(problem.near_twins, parts)
    return RowsAsOf(
        keys=chosen.rows.keys,
        ids=chosen.rows.ids,
        values=read_only(chosen.rows.values),
        codes=read_only(chosen.rows.codes),
        groups=chosen.rows.groups,
        metadata=chosen.rows.metadata,
        batches=tuple(file.batch for file in files if file.counts),
        as_of=as_of,
        near_repeats=chosen.near_repeats,
        bridging=chosen.bridging,
    )


def _batch_file(
    store: Store, batch: BatchDocument, notes: list[ErasureNote], *, counts: bool
) -> _BatchFile:
    path = store.batch_rows(batch.batch)
    order = (batch.number, batch.arrival)
    sha256 = valid_among(notes, store, path, batch.parquet_sha256)
    return _BatchFile(batch.batch, order, counts, sha256, file_state(path))
