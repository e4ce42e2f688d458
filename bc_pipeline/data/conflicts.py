"""Valid rows that repeat or contradict other rows, also at another precision."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from datetime import datetime
from typing import TypeVar

import numpy as np

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.batch_history import active_batches, withdrawn_batches
from bc_pipeline.data.batches import read_batch
from bc_pipeline.data.near_twins import NO_GROUP, GroupIndex
from bc_pipeline.data.rows import LabelledRows, first_of_each
from bc_pipeline.errors import Defect
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import ID_COLUMN

K = TypeVar("K", bound=Hashable)

REPEATED = "repeats an earlier row of the file"
ID_REUSED = "stands for other values elsewhere in the file"
LABELS_DIFFER = "differs from that of the same values elsewhere in the file"
NEAR_REPEATED = "repeats an earlier row of the file at another precision"
NEAR_LABELS_DIFFER = (
    "differs from that of the same values at another precision elsewhere in the file"
)


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
    codes = rows.codes.tolist()
    groups = _groups_in_file(problem, rows)
    ids_of_several = _with_several_partners(
        (name, own[0]) for name, own in zip(rows.ids, groups, strict=True)
    )
    keys_with_several_labels = _with_several_partners(zip(rows.keys, codes, strict=True))
    groups_with_several_labels = _with_several_partners(
        (group, code) for own, code in zip(groups, codes, strict=True) for group in own
    )
    conflicts: dict[int, list[Defect]] = {}
    seen: set[str] = set()
    seen_groups: set[int] = set()
    for position, defects in enumerate(accepted.defects(rows)):
        key, name, own = rows.keys[position], rows.ids[position], groups[position]
        if name and name in ids_of_several:
            defects.append(Defect(ID_REUSED, column=ID_COLUMN))
        if key in keys_with_several_labels:
            defects.append(Defect(LABELS_DIFFER, column=problem.labels.column))
        elif not groups_with_several_labels.isdisjoint(own):
            defects.append(Defect(NEAR_LABELS_DIFFER, column=problem.labels.column))
        if key in seen:
            defects.append(Defect(REPEATED))
        elif not seen_groups.isdisjoint(own):
            defects.append(Defect(NEAR_REPEATED))
        if defects:
            conflicts[position] = defects
        else:
            seen.add(key)
            seen_groups.update(own)
    return conflicts


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


def _listed(found: np.ndarray) -> list[list[int]]:
    return [[group for group in pair if group != NO_GROUP] for pair in found.tolist()]


def _with_several_partners(pairs: Iterable[tuple[K, object]]) -> set[K]:
    partners: dict[K, set[object]] = defaultdict(set)
    for name, partner in pairs:
        partners[name].add(partner)
    return {name for name, several in partners.items() if len(several) > 1}
