"""Which rows are records of one person's sample: by id, by values, and as near-twins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from datetime import datetime
from typing import NamedTuple

import numpy as np

from bc_pipeline.data.near_twins import NO_GROUP, GroupIndex, find_groups
from bc_pipeline.data.rows import LabelledRows, first_of_each, row_keys
from bc_pipeline.problems.policies import NearTwinPolicy

_WHOLE_NUMBER = re.compile(r"([0-9]+)\.0+")


def canonical_sample_id(text: str) -> str:
    """One spelling of an id: without spaces around it, an apostrophe or the ``.0`` of a number."""
    text = text.strip().removeprefix("'").strip().casefold()
    number = _WHOLE_NUMBER.fullmatch(text)
    return number[1] if number else text


class SampleMatcher:
    """Tells the rows of a sample from others.

    Parameters
    ----------
    ids : set of str
        Any spelling.
    values : array of float64, shape (n, n_features)
        Rows of the sample: equal rows match.
    near : array of float64, shape (m, n_features)
        First rows of the sample's groups: near-twins of them match.
    """

    def __init__(
        self,
        policy: NearTwinPolicy | None,
        ids: frozenset[str],
        values: np.ndarray,
        near: np.ndarray,
    ) -> None:
        self._ids = {canonical_sample_id(name) for name in ids}
        self._keys = set(row_keys(values))
        self._index = GroupIndex(policy)
        self._index.add(near)

    def knowing(self, values: np.ndarray) -> SampleMatcher:
        """The same matcher, which knows these rows too.

        Parameters
        ----------
        values : array of float64, shape (n, n_features)
        """
        other = copy(self)
        other._keys = self._keys | set(row_keys(values))
        return other

    def by_id(self, ids: Sequence[str | None]) -> np.ndarray:
        """Whether each row has one of the ids: array of bool, shape (n,)."""
        matches = [bool(name) and canonical_sample_id(str(name)) in self._ids for name in ids]
        return np.array(matches, dtype=bool)

    def by_name(self, ids: Sequence[str | None]) -> np.ndarray:
        """As `by_id`, where rows without an id are named by their key, as scores are."""
        by_key = np.array([name in self._keys for name in ids], dtype=bool)
        matches: np.ndarray = self.by_id(ids) | by_key
        return matches

    def __call__(self, ids: Sequence[str | None], values: np.ndarray) -> np.ndarray:
        """Whether each row is one of the sample's.

        Parameters
        ----------
        ids : sequence of (str or None), length n
        values : array of float64, shape (n, n_features)
            Not finite where a cell could not be read.

        Returns
        -------
        array of bool, shape (n,)
        """
        matches = self.by_id(ids)
        finite = np.flatnonzero(np.isfinite(values).all(axis=1))
        keys = row_keys(values[finite] + 0.0)
        matches[finite] |= np.array([key in self._keys for key in keys], dtype=bool)
        if len(finite):
            matches[finite] |= self._index.find(values[finite])[:, 0] != NO_GROUP
        return matches


class OrderedRows(NamedTuple):
    """Rows of a batch, with what they are ordered by when groups are formed."""

    rows: LabelledRows
    order: tuple[int, datetime]


def match_sample(
    policy: NearTwinPolicy | None,
    batches: Sequence[OrderedRows],
    ids: frozenset[str],
    seeds: np.ndarray,
) -> tuple[SampleMatcher, int]:
    """The rows of a sample, and of every group that they belong to.

    Erasing a group as a whole leaves all other groups as they were: no other row is a near-twin of
    its first row.

    Parameters
    ----------
    seeds : array of float64, shape (n, n_features)
        Rows of the sample, of which there may be none.

    Returns
    -------
    matcher : SampleMatcher
    bridging : int
        Rows of the sample that are near-twins of the first rows of several groups. Their own
        groups are unknown, and are left.
    """
    firsts = _first_rows(policy, batches, seeds.shape[1])
    index = GroupIndex(policy)
    index.add(firsts)
    near = index.find(seeds)
    several = near[:, 1] != NO_GROUP
    alone = near[:, 0] == NO_GROUP
    groups = np.unique(near[~several & ~alone, 0])
    matched = np.concatenate([firsts[groups], seeds[alone]])
    return SampleMatcher(policy, ids, seeds, matched), int(several.sum())


def _first_rows(
    policy: NearTwinPolicy | None, batches: Sequence[OrderedRows], features: int
) -> np.ndarray:
    """The first row of each group, in the order of the groups."""
    keys = [key for batch in batches for key in batch.rows.keys]
    orders = [batch.order for batch in batches for _ in batch.rows.keys]
    values = np.concatenate([np.empty((0, features)), *(batch.rows.values for batch in batches)])
    ordered = sorted(range(len(keys)), key=lambda row: (orders[row], keys[row]))
    distinct = [ordered[n] for n in first_of_each([keys[row] for row in ordered])]
    firsts: np.ndarray = values[distinct][find_groups(policy, values[distinct])[1]]
    return firsts
