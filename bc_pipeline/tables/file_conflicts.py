"""Defects of labelled rows that show only among all rows of their file."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import repeat
from typing import TypeVar

import numpy as np

from bc_pipeline.errors import Defect
from bc_pipeline.names import ID_COLUMN

K = TypeVar("K", bound=Hashable)

REPEATED = "repeats an earlier row of the file"
ID_REUSED = "stands for other values elsewhere in the file"
LABELS_DIFFER = "differs from that of the same values elsewhere in the file"
NEAR_REPEATED = "repeats an earlier row of the file at another precision"
NEAR_LABELS_DIFFER = (
    "differs from that of the same values at another precision elsewhere in the file"
)
STRAY_CODE = "is a code in a file of words, and codes are not declared"


def find_stray_codes(
    coded: np.ndarray, valid: Sequence[int], column: str
) -> dict[int, list[Defect]]:
    """Defects of labels that are codes in a file of words, where nobody declared the codes.

    Parameters
    ----------
    coded : array of bool, shape (n,)
        Whether the label of each row of the file is a code.
    valid : sequence of int
        Positions of the rows without a defect; the words of other rows do not count.
    column : str
        Of the labels.
    """
    if coded[valid].all():
        return {}
    return {row: [Defect(STRAY_CODE, column=column)] for row in np.flatnonzero(coded).tolist()}


def find_file_conflicts(
    keys: Sequence[str],
    ids: Sequence[str],
    codes: Sequence[int],
    column: str,
    groups: Sequence[Sequence[int]] | None = None,
    known: Iterable[list[Defect]] | None = None,
) -> dict[int, list[Defect]]:
    """Defects of rows of one file that repeat or contradict each other.

    Rows that contradict each other are all rejected, because nothing shows which is right.

    Parameters
    ----------
    keys : sequence of str, length n
        `row_key` of the values of rows without defects of their own, in the order of the file.
    ids : sequence of str, length n
        Empty where a row has none.
    codes : sequence of int, length n
    column : str
        Of the labels.
    groups : sequence of sequence of int, length n, optional
        Groups of near-twins that each row belongs to, its own first; default: one for each key.
    known : iterable of list of Defect, optional
        What is wrong with each row against rows of other files; listed first.

    Returns
    -------
    dict of int to list of Defect
        By position; only rows with defects.
    """
    groups = _group_keys(keys) if groups is None else groups
    ids_of_several = _with_several_partners(zip(ids, (own[0] for own in groups), strict=True))
    keys_with_several_labels = _with_several_partners(zip(keys, codes, strict=True))
    groups_with_several_labels = _with_several_partners(
        (group, code) for own, code in zip(groups, codes, strict=True) for group in own
    )
    conflicts: dict[int, list[Defect]] = {}
    seen: set[str] = set()
    seen_groups: set[int] = set()
    rows = zip(keys, ids, groups, repeat(()) if known is None else known, strict=False)
    for position, (key, name, own, earlier) in enumerate(rows):
        defects = list(earlier)
        if name and name in ids_of_several:
            defects.append(Defect(ID_REUSED, column=ID_COLUMN))
        if key in keys_with_several_labels:
            defects.append(Defect(LABELS_DIFFER, column=column))
        elif not groups_with_several_labels.isdisjoint(own):
            defects.append(Defect(NEAR_LABELS_DIFFER, column=column))
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


def _group_keys(keys: Sequence[str]) -> list[tuple[int]]:
    numbers: dict[str, tuple[int]] = {}
    return [numbers.setdefault(key, (len(numbers),)) for key in keys]


def _with_several_partners(pairs: Iterable[tuple[K, object]]) -> set[K]:
    first: dict[K, object] = {}
    return {name for name, partner in pairs if first.setdefault(name, partner) != partner}
