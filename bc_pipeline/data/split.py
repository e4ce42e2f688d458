"""The split of a dataset into train and holdout rows.

A row's side follows from its group's key, which is its own in a group of one, and the problem's
pinned salt alone, so it never changes when other rows come or go, and does not depend on the order
of files. A dataset has one row of each group of near-twins; of an older dataset with several, the
others are on neither side.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from functools import lru_cache

import numpy as np

from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.data.near_twins import NO_GROUP, GroupIndex
from bc_pipeline.data.rows import read_only, row_keys
from bc_pipeline.data.snapshot import Dataset
from bc_pipeline.errors import SplitChanged, SplitOverlap, counted
from bc_pipeline.problems.policies import NearTwinPolicy, SplitPolicy
from bc_pipeline.sample_metadata import SampleMetadata, take_metadata

_HEX_DIGITS = 13  # 52 bits: exact in a float


@dataclass(frozen=True, eq=False)
class SplitSide:
    """One side of a split, sorted by key.

    Attributes
    ----------
    keys : tuple of str, length n
    values : array of float64, shape (n, n_features)
    positive : array of int8, shape (n,)
        1 where the row is of the positive class.
    metadata : SampleMetadata
        What subgroups are formed by.
    """

    keys: tuple[str, ...]
    values: np.ndarray
    positive: np.ndarray
    metadata: SampleMetadata = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, index: np.ndarray) -> SplitSide:
        """The rows at these positions, in this order."""
        return SplitSide(
            tuple(self.keys[row] for row in index),
            self.values[index],
            self.positive[index],
            take_metadata(self.metadata, index.tolist()),
        )


@dataclass(frozen=True, eq=False)
class Split:
    """Train rows for every choice, holdout rows for the verdict only."""

    train: SplitSide
    holdout: SplitSide


def hash_position(salt: str, key: str) -> float:
    """Position of a row in the hash space, at least 0 and below 1."""
    digits = hashlib.sha256((salt + key).encode()).hexdigest()[:_HEX_DIGITS]
    return int(digits, 16) / float(16**_HEX_DIGITS)


@lru_cache(maxsize=1)
def split(policy: SplitPolicy, dataset: Dataset, near_twins: NearTwinPolicy | None = None) -> Split:
    """Divide a dataset by a problem's split policy.

    The last split is cached in memory; its arrays are read-only.

    Raises
    ------
    SplitOverlap
        Where a row or a near-twin of it is on both sides.
    """
    is_holdout = np.array(
        [
            hash_position(policy.salt, group) < policy.holdout_share
            for group in dataset.groups or dataset.keys
        ],
        dtype=bool,
    )
    is_used = np.array([key not in dataset.repeats for key in dataset.keys], dtype=bool)
    train, holdout = (
        SplitSide(
            keys=tuple(dataset.keys[row] for row in np.flatnonzero(side)),
            values=read_only(dataset.values[side]),
            positive=read_only(dataset.positive[side]),
            metadata=take_metadata(dataset.metadata, np.flatnonzero(side).tolist()),
        )
        for side in (is_used & ~is_holdout, is_used & is_holdout)
    )
    check_split(train, holdout, near_twins)
    return Split(train, holdout)


def check_split(
    train: SplitSide, holdout: SplitSide, near_twins: NearTwinPolicy | None = None
) -> None:
    """Make sure that no row is on both sides, by its stored key, by its values and as a near-twin.

    The keys are computed from the values again, because a wrong key could put a row on both.

    Raises
    ------
    SplitOverlap
        With the keys of all such rows.
    """
    train_keys = {*train.keys, *row_keys(train.values)}
    holdout_keys = {*holdout.keys, *row_keys(holdout.values)}
    index = GroupIndex(near_twins)
    index.add(holdout.values)
    is_twin = index.find(train.values)[:, 0] != NO_GROUP
    twins = (train.keys[row] for row in np.flatnonzero(is_twin))
    shared = tuple(sorted(train_keys & holdout_keys | set(twins)))
    if shared:
        raise SplitOverlap(
            f"{counted(len(shared), 'row')} in both train and holdout.",
            "Do not train on this dataset; make a new snapshot.",
            keys=shared,
        )


def require_same_split(policy: SplitPolicy, champion: Manifest) -> None:
    """Make sure that a champion was trained with the same split.

    With another one its train rows would be among the holdout rows that both are scored on.
    What the champion's manifest does not have, as in formats 1 and 2, counts as the same. The
    policy of near-twins is free to change: it decides which rows are used, and moves none to the
    other side.

    Raises
    ------
    SplitChanged
        Naming every field that differs.
    """
    lineage, ours = champion.lineage, asdict(policy)
    theirs = lineage.split if lineage.split is not None else {"salt": lineage.split_salt}
    differing = tuple(
        name for name in sorted(ours | theirs) if theirs.get(name, ours.get(name)) != ours.get(name)
    )
    if differing:
        raise SplitChanged(
            f"The split changed in {', '.join(differing)} since {champion.version} was trained: it "
            "may know rows of today's holdout, so no challenger can be compared with it.",
            "Set it back to the champion's. A problem that needs another split is another problem: "
            "give it a name of its own; it starts without a champion.",
            champion=champion.version,
            differing=differing,
        )
