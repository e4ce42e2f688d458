"""The rows of a dataset, chosen among the rows of batches: one of each group of near-twins.

Groups are formed of the rows of all batches of the volume, in the order in which the batches were
made, whether they count or not. So a row's group never changes: not by later batches, also those
of an earlier date, not by a withdrawal, and not with the time of a snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np

from bc_pipeline.data.near_twins import find_groups
from bc_pipeline.data.rows import LabelledRows, first_of_each
from bc_pipeline.problems.policies import NearTwinPolicy
from bc_pipeline.sample_metadata import first_known, join_metadata


class BatchRows(NamedTuple):
    """The rows of a batch.

    Attributes
    ----------
    order : tuple of int and datetime
        The batch's number and time of arrival: the order in which its rows enter groups.
    counts : bool
        Whether the rows may be chosen.
    """

    rows: LabelledRows
    order: tuple[int, datetime]
    counts: bool


class ChosenRows(NamedTuple):
    """Rows sorted by key, with groups where a row's group has the key of another row.

    Attributes
    ----------
    near_repeats : int
        Rows that were left out, because they are near-twins of other rows.
    bridging : int
        Those of `near_repeats` that are near-twins of the first rows of several groups.
    """

    rows: LabelledRows
    near_repeats: int
    bridging: int


class _Groups(NamedTuple):
    """The group of each row, by its key.

    Attributes
    ----------
    first : dict of str to str
        Key of the first row of the row's group.
    position : dict of str to int
        In the order in which the rows entered groups.
    bridging : frozenset of str
        Keys of the rows that are near-twins of the first rows of several groups.
    """

    first: dict[str, str]
    position: dict[str, int]
    bridging: frozenset[str]


def choose_rows(policy: NearTwinPolicy | None, batches: Sequence[BatchRows]) -> ChosenRows:
    """Choose the first row of each group among the batches that count.

    Parameters
    ----------
    batches : sequence of BatchRows
        One that counts, or more; a row that several of them have comes from the first one, with
        the first id and metadata that any of them gives.
    """
    groups = _form_groups(policy, batches)
    joined = _join([batch for batch in batches if batch.counts])
    ordered = first_of_each(joined.keys)
    ordered.sort(key=lambda row: groups.position[joined.keys[row]])
    single = [row for row in ordered if joined.keys[row] not in groups.bridging]
    chosen = [single[n] for n in first_of_each([groups.first[joined.keys[row]] for row in single])]
    if any(groups.first[joined.keys[row]] != joined.keys[row] for row in chosen):
        # First rows are never near-twins of each other, but rows of two groups can be.
        chosen = [chosen[n] for n in find_groups(policy, joined.values[chosen])[1]]
    rows = joined.take(sorted(chosen, key=joined.keys.__getitem__))
    id_of = {
        key: name for key, name in zip(joined.keys[::-1], joined.ids[::-1], strict=True) if name
    }
    firsts = tuple(groups.first[key] for key in rows.keys)
    labelled = LabelledRows(
        keys=rows.keys,
        ids=tuple(id_of.get(key, "") for key in rows.keys),
        values=rows.values,
        codes=rows.codes,
        groups=None if firsts == rows.keys else firsts,
        metadata=first_known(joined.metadata, joined.keys, rows.keys),
    )
    return ChosenRows(labelled, len(ordered) - len(rows), len(ordered) - len(single))


def _form_groups(policy: NearTwinPolicy | None, batches: Sequence[BatchRows]) -> _Groups:
    joined = _join(batches)
    orders = [batch.order for batch in batches for _ in batch.rows.keys]
    ordered = sorted(range(len(orders)), key=lambda row: (orders[row], joined.keys[row]))
    distinct = [ordered[n] for n in first_of_each([joined.keys[row] for row in ordered])]
    keys = [joined.keys[row] for row in distinct]
    group, first, bridging = find_groups(policy, joined.values[distinct])
    return _Groups(
        {key: keys[first[number]] for key, number in zip(keys, group, strict=True)},
        {key: position for position, key in enumerate(keys)},
        frozenset(keys[row] for row in np.flatnonzero(bridging)),
    )


def _join(batches: Sequence[BatchRows]) -> LabelledRows:
    return LabelledRows(
        keys=tuple(key for batch in batches for key in batch.rows.keys),
        ids=tuple(name for batch in batches for name in batch.rows.ids),
        values=np.concatenate([batch.rows.values for batch in batches]),
        codes=np.concatenate([batch.rows.codes for batch in batches]),
        metadata=join_metadata([(batch.rows.metadata, len(batch.rows)) for batch in batches]),
    )
