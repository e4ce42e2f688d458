"""Airflow's pools, which the embedded stack and clusters create."""

from __future__ import annotations

from typing import Final

PROMOTION_POOL: Final = "promotion"
# Name, slots and description. One slot: two releases never run at the same time.
POOLS: Final = ((PROMOTION_POOL, 1, "One promotion at a time"),)
