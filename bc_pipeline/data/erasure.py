"""Finds and removes one person's rows from batches, datasets and quarantine tables.

Landed files and the worklist belong to those who wrote them: lines that hold the rows are named.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bc_pipeline.artifacts.files import sha256_bytes, sha256_file, write_atomic
from bc_pipeline.artifacts.signed_document import (
    read_signed,
    read_signed_document,
    remove_signatures,
    write_signed,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.batches import list_batches, read_batch
from bc_pipeline.data.erasure_notes import ErasedRows, LandedLines, list_notes, valid_among
from bc_pipeline.data.rows import LabelledRows, encode_rows, read_rows
from bc_pipeline.data.sample_match import OrderedRows, SampleMatcher, match_sample
from bc_pipeline.data.snapshot import DatasetDocument
from bc_pipeline.errors import DataError, SchemaMismatch
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.problems.base import Problem
from bc_pipeline.tables.file_names import printable_name
from bc_pipeline.tables.locations import TABLE_SUFFIXES
from bc_pipeline.tables.reader import open_table


@dataclass(frozen=True)
class UserFiles:
    """Files of users that hold the rows.

    Attributes
    ----------
    files : tuple of LandedLines
    unread : tuple of str
        Files that could not be read, and so may hold further rows.
    """

    files: tuple[LandedLines, ...]
    unread: tuple[str, ...]


def read_batches(problem: Problem, store: Store) -> list[OrderedRows]:
    """Rows of all batches, withdrawn ones included."""
    return [
        OrderedRows(read_batch(problem, store, batch), (batch.number, batch.arrival))
        for batch in list_batches(store)
    ]


def read_sample(problem: Problem, path: Path) -> np.ndarray:
    """The feature values of a file: array of float64, shape (n, n_features).

    Raises
    ------
    FileRefused, SchemaMismatch
    DataError
        Where a value cannot be read.
    """
    values = [np.empty((0, len(problem.schema.names)))]
    with open_table(path, problem.schema, problem.labels, read_labels=False) as reader:
        values += [block.values + 0.0 for block in reader]
    rows = np.concatenate(values)
    if not len(rows) or not np.isfinite(rows).all():
        raise DataError(
            f"{printable_name(path.name)} has no row, or a row with a value that is not a number.",
            "Give a table with the names of the features and the values of the person's rows.",
        )
    return rows


def find_sample(
    problem: Problem,
    batches: Sequence[OrderedRows],
    ids: frozenset[str],
    values: np.ndarray,
    find_elsewhere: Callable[[SampleMatcher], np.ndarray],
) -> tuple[SampleMatcher, int]:
    """All that is known of a person's sample: rows of its groups, and the ids that these have.

    Parameters
    ----------
    values : array of float64, shape (n, n_features)
        Of the request.
    find_elsewhere : callable
        Gives the matching values of the prediction log, shape (m, n_features).

    Returns
    -------
    matcher : SampleMatcher
    bridging : int
        As of `match_sample`.
    """
    policy = problem.near_twins
    by_id = SampleMatcher(policy, ids, values[:0], values[:0])
    rows = [batch.rows for batch in batches]
    seeds = np.concatenate([values, *(one.values[by_id.by_id(one.ids)] for one in rows)])
    matcher, bridging = match_sample(policy, batches, ids, seeds)
    for _ in range(2):
        # The ids of the rows lead to predictions, and the values of these to rows without an id.
        matches = [matcher(one.ids, one.values) for one in rows]
        pairs = list(zip(rows, matches, strict=True))
        ids |= {one.ids[n] for one, mine in pairs for n in np.flatnonzero(mine) if one.ids[n]}
        known = np.concatenate([seeds, *(one.values[mine] for one, mine in pairs)])
        matcher, bridging = match_sample(policy, batches, ids, known)
        logged = find_elsewhere(matcher)
        seeds = np.concatenate([known, logged[~_of_other_ids(problem, rows, matcher, logged)]])
    return matcher.knowing(seeds), bridging


def _of_other_ids(
    problem: Problem, rows: Sequence[LabelledRows], matcher: SampleMatcher, values: np.ndarray
) -> np.ndarray:
    """Whether values are those of rows with another id: array of bool, shape (n,).

    Callers name samples as they like, so the id of a prediction may be another person's.
    """
    others = [values[:0]]
    for one in rows:
        named = np.array([bool(name) for name in one.ids], dtype=bool)
        others.append(one.values[named & ~matcher(one.ids, one.values)])
    other = np.concatenate(others)
    return SampleMatcher(problem.near_twins, frozenset(), other, other)(
        [None] * len(values), values
    )


def plan_rows(
    problem: Problem, store: Store, matcher: SampleMatcher
) -> tuple[list[ErasedRows], list[str]]:
    """The files of batches and datasets that hold the rows; also those that cannot be searched."""
    planned, unread = [], []
    for path, sha256 in _row_files(store):
        try:
            rows = read_rows(problem, path, sha256)
        except SchemaMismatch:
            unread.append(store.relative(path))
            continue
        matches = matcher(rows.ids, rows.values)
        if count := int(matches.sum()):
            after = sha256_bytes(_encode_without(problem, rows, matches))
            planned.append(ErasedRows(store.relative(path), count, len(matches) - count, after))
    return planned, unread


def erase_rows(
    problem: Problem, store: Store, matcher: SampleMatcher, planned: Sequence[ErasedRows]
) -> None:
    """Rewrite the planned files without the rows; the caller has the locks of their folders."""
    wanted = {rows.path: rows.sha256 for rows in planned}
    for path, sha256 in _row_files(store):
        after = wanted.get(store.relative(path))
        if after is not None and sha256 != after:
            rows = read_rows(problem, path, sha256)
            write_atomic(path, _encode_without(problem, rows, matcher(rows.ids, rows.values)))


def _encode_without(problem: Problem, rows: LabelledRows, matches: np.ndarray) -> bytes:
    return encode_rows(problem, rows.take(np.flatnonzero(~matches).tolist()))


def _row_files(store: Store) -> Iterator[tuple[Path, str]]:
    """Every file of rows, with the digest that it must have."""
    notes = list_notes(store)
    for batch in list_batches(store):
        path = store.batch_rows(batch.batch)
        yield path, valid_among(notes, store, path, batch.parquet_sha256)
    for document in sorted(store.datasets.glob("[!.]*.json")):
        dataset = read_signed_document(store, document, DatasetDocument)
        path = store.dataset_rows(dataset.dataset)
        yield path, valid_among(notes, store, path, dataset.parquet_sha256)


def find_in_folder(problem: Problem, folder: Path, matcher: SampleMatcher) -> UserFiles:
    """The files of a folder that hold the rows, with their lines."""
    matching, unread = [], []
    for path in sorted(folder.glob("[!.]*")):
        if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
            continue
        name = printable_name(path.name)
        try:
            lines = _matching_lines(problem, path, matcher)
        except (DataError, OSError):
            unread.append(name)
            continue
        if lines:
            matching.append(LandedLines(name, sha256_file(path), lines))
    return UserFiles(tuple(matching), tuple(unread))


def _matching_lines(problem: Problem, path: Path, matcher: SampleMatcher) -> tuple[int, ...]:
    lines: list[int] = []
    with open_table(path, problem.schema, problem.labels, read_labels=False) as reader:
        for block in reader:
            lines += block.lines[matcher(block.ids, block.values)].tolist()
    return tuple(lines)


def erase_quarantined(
    store: Store, matcher: SampleMatcher, landed: Sequence[LandedLines], *, dry_run: bool
) -> int:
    """Remove lines of quarantine tables by id, and by the lines of landed files; their number."""
    lines_of = {file.sha256[:16]: frozenset(file.lines) for file in landed}
    removed = 0
    for path in sorted(store.quarantine.glob("[!.]*.csv")):
        text = read_signed(store, path).decode()
        table = list(csv.reader(io.StringIO(text)))
        header, rows = table[0], table[1:]
        name_at, line_at = header.index(ID_COLUMN), header.index("line")
        is_ours = matcher.by_id([row[name_at] for row in rows]).tolist()
        erased = lines_of.get(path.stem, frozenset())
        others = [
            row
            for row, ours in zip(rows, is_ours, strict=True)
            if not ours and not (row[line_at].isdigit() and int(row[line_at]) in erased)
        ]
        removed += len(rows) - len(others)
        if len(others) < len(rows) and not dry_run:
            out = io.StringIO()
            csv.writer(out, lineterminator="\n").writerows([header, *others])
            data = out.getvalue().encode()
            write_signed(store, path, data)
            remove_signatures(path, keep=(data,))
    return removed
