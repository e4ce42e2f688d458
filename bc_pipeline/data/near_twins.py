"""Near-twins: rows that are records of the same sample at different precision.

Near-twins form a group. Rows are grouped in an order, the earliest first: a row that is no
near-twin of the first row of a group is the first row of a new group, every other row belongs to
the group whose first row it is a near-twin of, and is a bridging row if there are several (the
leader algorithm; Hartigan, Clustering Algorithms, 1975, chapter 3). First rows are never
near-twins of each other. Rows that come later change nothing about earlier rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bc_pipeline.problems.policies import NearTwinPolicy

NO_GROUP = np.iinfo(np.int64).max

_BLOCK = 1024  # bounds the pairs within a block, and so the memory
_REACH = 1 + 1e-9


class GroupIndex:
    """The first rows of groups, searchable by their scaled values.

    The rows are stored in k-d trees of doubling sizes, so that adding a few rows to many does not
    build a tree of all; within a tree, scipy's search skips what is out of reach.

    Parameters
    ----------
    policy : NearTwinPolicy, optional
        Without one, every row is a group of its own.
    """

    def __init__(self, policy: NearTwinPolicy | None) -> None:
        self._policy = policy
        self._count = 0
        self._parts: list[tuple[np.ndarray, np.ndarray, Any]] = []

    def add(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add rows, the earliest first.

        Parameters
        ----------
        values : array of float64, shape (n, n_features)

        Returns
        -------
        groups : array of int64, shape (n,)
            Numbered from 0 in the order of their first rows; of a bridging row one of its groups.
        bridging : array of bool, shape (n,)
            Where a row is a near-twin of the first rows of several groups.
        """
        if self._policy is None:
            self._count += len(values)
            return np.arange(self._count - len(values), self._count), np.zeros(len(values), bool)
        points = self._policy.scale(values)
        blocks = [points[start : start + _BLOCK] for start in range(0, len(points), _BLOCK)]
        added = [self._add_block(block) for block in blocks]
        groups = np.concatenate([np.empty(0, np.int64), *(groups for groups, _ in added)])
        return groups, np.concatenate([np.empty(0, bool), *(bridging for _, bridging in added)])

    def find(self, values: np.ndarray) -> np.ndarray:
        """Find two of the groups whose first rows are near-twins of each row.

        Parameters
        ----------
        values : array of float64, shape (n, n_features)

        Returns
        -------
        array of int64, shape (n, 2)
            The earlier group first; `NO_GROUP` where there is none.
        """
        if self._policy is None:
            return np.full((len(values), 2), NO_GROUP)
        return self._search(self._policy.scale(values))

    def _add_block(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        neighbours = self._search(points)
        reached, leader = _lead(points, np.sum(neighbours != NO_GROUP, axis=1))
        is_first = reached == 0
        numbers = self._count + np.cumsum(is_first) - 1
        groups = np.where(neighbours[:, 0] == NO_GROUP, numbers[leader], neighbours[:, 0])
        self._insert(points[is_first], numbers[is_first])
        return groups, reached > 1

    def _insert(self, points: np.ndarray, numbers: np.ndarray) -> None:
        from scipy.spatial import cKDTree

        if not len(points):
            return
        self._count += len(points)
        while self._parts and len(self._parts[-1][0]) <= 2 * len(points):
            earlier_points, earlier_numbers, _ = self._parts.pop()
            points = np.concatenate([earlier_points, points])
            numbers = np.concatenate([earlier_numbers, numbers])
        self._parts.append((points, numbers, cKDTree(points)))

    def _search(self, points: np.ndarray) -> np.ndarray:
        neighbours = [np.full((len(points), 2), NO_GROUP)]
        for _, numbers, tree in self._parts:
            _, rows = tree.query(points, k=2, p=np.inf, distance_upper_bound=_REACH)
            # For a neighbour that it does not find, the tree returns its number of rows.
            neighbours.append(np.append(numbers, NO_GROUP)[rows])
        return np.sort(np.concatenate(neighbours, axis=1), axis=1)[:, :2]


def find_groups(
    policy: NearTwinPolicy | None, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group rows in their order, the earliest first.

    Parameters
    ----------
    values : array of float64, shape (n, n_features)

    Returns
    -------
    groups : array of int64, shape (n,)
        Numbered from 0 in the order of their first rows; of a bridging row one of its groups.
    first : array of int64, shape (n_groups,)
        Position of each group's first row.
    bridging : array of bool, shape (n,)
        Where a row is a near-twin of the first rows of several groups before it.
    """
    groups, bridging = GroupIndex(policy).add(values)
    return groups, np.unique(groups, return_index=True)[1], bridging


def find_repeats(
    policy: NearTwinPolicy | None, keys: Sequence[str], values: np.ndarray
) -> frozenset[str]:
    """Keys of the rows that are near-twins of another row, in the order of the keys.

    For datasets of earlier releases: the order of arrival is not known of a dataset.

    Parameters
    ----------
    keys : sequence of str, length n
        Sorted.
    values : array of float64, shape (n, n_features)
    """
    first = find_groups(policy, values)[1]
    return frozenset(keys) - {keys[row] for row in first}


def policy_digest(policy: NearTwinPolicy | None) -> str:
    """The policy's digest as documents give it; empty without a policy."""
    return policy.digest if policy else ""


def _lead(points: np.ndarray, reached: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the first rows of new groups in a block.

    Parameters
    ----------
    reached : array of int64, shape (n,)
        How many groups of earlier blocks each row is a near-twin of; the block's are added.

    Returns
    -------
    reached : array of int64, shape (n,)
        0 for the first rows of new groups.
    leader : array of int64, shape (n,)
        A row of the block: the row itself, or the first row of the new group that it belongs to.
    """
    from scipy.spatial import cKDTree

    reached, leader = reached.copy(), np.arange(len(points))
    if len(points) < 2 or reached.all():
        return reached, leader
    pairs = cKDTree(points).query_pairs(_REACH, p=np.inf, output_type="ndarray")
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    for near in np.split(pairs, starts[1:]) if len(pairs) else ():
        row, later = near[0, 0], near[:, 1]
        if reached[row] == 0:
            leader[later[reached[later] == 0]] = row
            reached[later] += 1
    return reached, leader
