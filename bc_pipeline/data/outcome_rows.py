"""Lands predictions whose outcome is known, as a labelled file that ingest reads like any other."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bc_pipeline.artifacts.files import staged_file
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.batch_history import active_batches
from bc_pipeline.data.batches import list_batches, read_batch
from bc_pipeline.data.labelled_file import ROW_LIMIT
from bc_pipeline.data.rows import row_keys
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.prediction_log.known_outcomes import KnownOutcomes
from bc_pipeline.problems.base import Problem
from bc_pipeline.tables.writer import Kind, TableWriter

_FILE_ROWS = ROW_LIMIT // 2


@dataclass(frozen=True)
class LandedOutcomes:
    """The result of landing outcomes.

    Attributes
    ----------
    files : tuple of Path
        Written now, or before from the same outcomes.
    rows : int
        In these files.
    known : int
        Outcomes that are not in them: a batch has the same values with the same label, or an
        earlier prediction of the same values has the same outcome.
    """

    files: tuple[Path, ...]
    rows: int
    known: int


def land_known_outcomes(
    problem: Problem, store: Store, outcomes: KnownOutcomes, *, again: bool = False
) -> LandedOutcomes:
    """Write the outcomes that no batch has to Parquet files in the landing folder.

    A file is dated by the newest of its outcomes and named by its content: the same outcomes give
    the same file, and so the same batch. Labels that contradict a batch, such as corrected
    outcomes, are written too; ingest rejects them until that batch is withdrawn.

    Parameters
    ----------
    again : bool
        Whether to write outcomes that are in a withdrawn batch, and in no other, too.
    """
    keys = row_keys(outcomes.values)
    codes = np.array(
        [problem.labels.code(is_positive=positive) for positive in outcomes.positive.tolist()],
        dtype=np.int64,
    )
    known = _known_labels(problem, store, withdrawn=not again)
    chosen = []
    for row, label in enumerate(zip(keys, codes.tolist(), strict=True)):
        if label not in known:
            known.add(label)
            chosen.append(row)
    files = tuple(
        _write(problem, store, outcomes, keys, chosen[start : start + _FILE_ROWS])
        for start in range(0, len(chosen), _FILE_ROWS)
    )
    return LandedOutcomes(files, len(chosen), len(keys) - len(chosen))


def _known_labels(problem: Problem, store: Store, *, withdrawn: bool) -> set[tuple[str, int]]:
    """Key and label code of the rows of all batches."""
    batches = list_batches(store) if withdrawn else active_batches(store)
    known: set[tuple[str, int]] = set()
    for batch in batches:
        rows = read_batch(problem, store, batch)
        known.update(zip(rows.keys, rows.codes.tolist(), strict=True))
    return known


def _write(
    problem: Problem, store: Store, outcomes: KnownOutcomes, keys: tuple[str, ...], rows: list[int]
) -> Path:
    names, labels = problem.schema.names, problem.labels
    ids = [outcomes.ids[row] for row in rows]
    words = [labels.name(positive) for positive in outcomes.positive[rows].tolist()]
    content = "".join(
        f"{name}\n{keys[row]}\n{word}\n" for name, row, word in zip(ids, rows, words, strict=True)
    )
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    newest = float(outcomes.recorded_at[rows].max())
    path = store.landing / (
        f"outcomes-{datetime.fromtimestamp(newest, UTC):%Y%m%dT%H%M%SZ}-{digest}.parquet"
    )
    if path.exists():
        return path
    columns: dict[str, Kind] = {
        ID_COLUMN: "text",
        labels.column: "text",
        **dict.fromkeys(names, "number"),
    }
    values = zip(names, outcomes.values[rows].T, strict=True)
    with staged_file(path) as staged:
        with TableWriter(staged, columns, "parquet") as writer:
            writer.write({ID_COLUMN: ids, labels.column: words} | dict(values))
        os.utime(staged, (newest, newest))
    return path
