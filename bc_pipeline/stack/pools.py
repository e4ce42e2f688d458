"""Airflow's pools, as data: the embedded stack and a cluster make them from here."""

from __future__ import annotations

from typing import Final, NamedTuple


class Pool(NamedTuple):
    """A pool: how many of its tasks run at a time."""

    name: str
    slots: int
    description: str


PROMOTION_POOL: Final = "promotion"
POOLS: Final = (
    # One slot: two releases never run side by side.
    Pool(PROMOTION_POOL, 1, "One promotion at a time"),
)
