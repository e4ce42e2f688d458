"""Valid rows that repeat or contradict other rows, also at another precision."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.batch_history import active_batches, withdrawn_batches
from bc_pipeline.data.batches import read_batch
from bc_pipeline.data.near_twins import NO_GROUP, GroupIndex
from bc_pipeline.data.rows import LabelledRows, first_of_each
from bc_pipeline.errors import Defect
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.problems.base import Problem
from bc_pipeline.tables.file_conflicts import find_file_conflicts


class AcceptedRows:
    """Labels, ids and groups of the rows of all batches that are not withdrawn; see `refresh`."""

    def __init__(self, problem: Problem, store: Store) -> None:
        self._problem = problem
        self._store = store
        self._forget()

    def _forget(self) -> None:
        self._batches_read: set[str] = set()
        self._label_of: dict[str, tuple[int, str]] = {}
        self._key_of: dict[str, tuple[str, str]] = {}
        self._index = GroupIndex(self._problem.near_twins)
        self._group_of: dict[str, int] = {}
        self._first_labels: list[tuple[int, str]] = []

    def refresh(self) -> None:
        """Follow what was added or withdrawn since; the caller has the batches' lock."""
        active = active_batches(self._store)
        if not self._batches_read.issubset({batch.batch for batch in active}):
            self._forget()
        for batch in active:
            if batch.batch not in self._batches_read:
                self.add(batch.batch, read_batch(self._problem, self._store, batch))

    def add(self, batch: str, rows: LabelledRows) -> None:
        """Add the accepted rows of a batch."""
        codes = rows.codes.tolist()
        for key, name, code in zip(rows.keys, rows.ids, codes, strict=True):
            self._label_of.setdefault(key, (code, batch))
            if name:
                self._key_of.setdefault(name, (key, batch))
        new = [row for row in first_of_each(rows.keys) if rows.keys[row] not in self._group_of]
        for row, group in zip(new, self._index.add(rows.values[new])[0].tolist(), strict=True):
            self._group_of[rows.keys[row]] = group
            if group == len(self._first_labels):
                self._first_labels.append((codes[row], batch))
        self._batches_read.add(batch)

    def defects(self, rows: LabelledRows) -> list[list[Defect]]:
        """How each row contradicts accepted ones; the same row again is no contradiction."""
        known = zip(rows.keys, rows.ids, rows.codes.tolist(), self._groups(rows), strict=True)
        return [
            self._id_defects(key, name, groups) + self._label_defects(key, code, groups)
            for key, name, code, groups in known
        ]

    def count_repeats(self, rows: LabelledRows) -> tuple[int, int]:
        """The number of rows whose sample is known, and of those at another precision."""
        repeats = sum(bool(groups) for groups in self._groups(rows))
        return repeats, repeats - sum(key in self._label_of for key in rows.keys)

    def count_contradictions(self, rows: LabelledRows) -> int:
        """The number of rows that contradict accepted ones."""
        return sum(bool(defects) for defects in self.defects(rows))

    def _groups(self, rows: LabelledRows) -> list[list[int]]:
        """The known groups that each row belongs to."""
        near = _listed(self._index.find(rows.values))
        return [
            [self._group_of[key]] if key in self._group_of else groups
            for key, groups in zip(rows.keys, near, strict=True)
        ]

    def _id_defects(self, key: str, name: str, groups: list[int]) -> list[Defect]:
        known_key, batch = self._key_of.get(name, (key, ""))
        if known_key == key or self._group_of[known_key] in groups:
            return []
        return [Defect(f"stands for other values in batch {batch}", column=ID_COLUMN)]

    def _label_defects(self, key: str, code: int, groups: list[int]) -> list[Defect]:
        column = self._problem.labels.column
        known_code, batch = self._label_of.get(key, (code, ""))
        if known_code != code:
            reason = f"differs from that of the same values in batch {batch}"
            return [Defect(reason, column=column)]
        if key in self._label_of:
            return []
        first = (self._first_labels[group] for group in groups)
        batches = dict.fromkeys(batch for known_code, batch in first if known_code != code)
        reason = "differs from that of the same values at another precision in batch"
        return [Defect(f"{reason} {batch}", column=column) for batch in batches]


def arrival_after_withdrawals(
    problem: Problem, store: Store, rows: LabelledRows, arrival: datetime
) -> datetime:
    """The time from which new rows may count: when no batch that they contradict counts any more.

    Otherwise snapshots as of times before a withdrawal would change.
    """
    for batch, withdrawn_at in withdrawn_batches(store):
        if withdrawn_at > arrival:
            withdrawn = AcceptedRows(problem, store)
            withdrawn.add(batch.batch, read_batch(problem, store, batch))
            if withdrawn.count_contradictions(rows):
                arrival = withdrawn_at
    return arrival


def find_conflicts(
    problem: Problem, rows: LabelledRows, accepted: AcceptedRows
) -> dict[int, list[Defect]]:
    """Defects of rows that repeat or contradict others.

    Rows of one file that contradict each other are all rejected, because nothing shows which
    of them is right. A new row that contradicts an accepted batch is rejected.

    Parameters
    ----------
    rows : LabelledRows
        Rows without defects of their own, in the order of the file.
    accepted : AcceptedRows
        Of earlier batches.

    Returns
    -------
    dict of int to list of Defect
        By position in `rows`; only rows with defects.
    """
    return find_file_conflicts(
        rows.keys,
        rows.ids,
        rows.codes.tolist(),
        problem.labels.column,
        _groups_in_file(problem, rows),
        accepted.defects(rows),
    )


def _groups_in_file(problem: Problem, rows: LabelledRows) -> list[list[int]]:
    """The groups that each row of a file belongs to, its own first."""
    first = first_of_each(rows.keys)
    index = GroupIndex(problem.near_twins)
    own = index.add(rows.values[first])[0].tolist()
    near = _listed(index.find(rows.values[first]))
    groups_of = {
        rows.keys[row]: list(dict.fromkeys([group, *others]))
        for row, group, others in zip(first, own, near, strict=True)
    }
    return [groups_of[key] for key in rows.keys]


def _listed(pairs: np.ndarray) -> list[list[int]]:
    return [[group for group in pair if group != NO_GROUP] for pair in pairs.tolist()]
