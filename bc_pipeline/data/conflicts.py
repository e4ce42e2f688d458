"""Rows that are sound by themselves but not beside others: repeats and contradictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.batches import list_batches, read_batch
from bc_pipeline.data.rows import LabelledRows
from bc_pipeline.errors import Defect
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import ID_COLUMN

REPEATED = "repeats an earlier row of the file"
ID_REUSED = "stands for other values elsewhere in the file"
LABELS_DIFFER = "differs from that of the same values elsewhere in the file"


class History:
    """What the batches accepted so far say of each row; `refresh` reads the new ones."""

    def __init__(self, problem: Problem, store: Store) -> None:
        self._problem = problem
        self._store = store
        self._read: set[str] = set()
        self._label_of: dict[str, tuple[int, str]] = {}
        self._key_of: dict[str, tuple[str, str]] = {}

    def refresh(self) -> None:
        """Read the batches that came since; call it with the batches' lock held."""
        for record in list_batches(self._store):
            if record.batch not in self._read:
                self._add(record.batch, read_batch(self._problem, self._store, record))

    def _add(self, batch: str, rows: LabelledRows) -> None:
        for key, name, code in zip(rows.keys, rows.ids, rows.codes.tolist(), strict=True):
            self._label_of.setdefault(key, (code, batch))
            if name:
                self._key_of.setdefault(name, (key, batch))
        self._read.add(batch)

    def defects(self, key: str, name: str, code: int) -> list[Defect]:
        """How a row contradicts an accepted one; the same row again is no contradiction."""
        found = []
        known_key, batch = self._key_of.get(name, (key, ""))
        if known_key != key:
            found.append(Defect(f"stands for other values in batch {batch}", column=ID_COLUMN))
        known_code, batch = self._label_of.get(key, (code, ""))
        if known_code != code:
            found.append(
                Defect(
                    f"differs from that of the same values in batch {batch}",
                    column=self._problem.labels.column,
                )
            )
        return found


def conflicts(problem: Problem, rows: LabelledRows, history: History) -> dict[int, list[Defect]]:
    """Defects of rows that repeat or contradict others.

    Where rows of one file contradict each other none of them is believed: nothing tells
    which is right. Against accepted batches the new row is the one that is kept out.

    Parameters
    ----------
    rows : LabelledRows
        Rows without defects of their own, in the order of the file.
    history : History
        Of the batches accepted before.

    Returns
    -------
    dict of int to list of Defect
        Keyed by position in `rows`; only bad rows.
    """
    codes = rows.codes.tolist()
    several_keys = _keys_with_several(zip(rows.ids, rows.keys, strict=True))
    several_labels = _keys_with_several(zip(rows.keys, codes, strict=True))
    found: dict[int, list[Defect]] = {}
    taken: set[str] = set()
    for position, (key, name, code) in enumerate(zip(rows.keys, rows.ids, codes, strict=True)):
        defects = history.defects(key, name, code)
        if name and name in several_keys:
            defects.append(Defect(ID_REUSED, column=ID_COLUMN))
        if key in several_labels:
            defects.append(Defect(LABELS_DIFFER, column=problem.labels.column))
        if key in taken:
            defects.append(Defect(REPEATED))
        if defects:
            found[position] = defects
        else:
            taken.add(key)
    return found


def _keys_with_several(pairs: Iterable[tuple[str, object]]) -> set[str]:
    """Names that are paired with more than one thing."""
    partners: dict[str, set[object]] = defaultdict(set)
    for name, partner in pairs:
        partners[name].add(partner)
    return {name for name, partner in partners.items() if len(partner) > 1}
