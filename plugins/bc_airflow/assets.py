"""The Assets of a problem."""

from __future__ import annotations

from airflow.sdk import Asset


def champion_asset(problem: str) -> Asset:
    """Updated when another version becomes the champion."""
    return Asset(name=f"{problem}_champion", uri=f"bc://{problem}/champion", group="model")


def scores_asset(problem: str) -> Asset:
    """Updated when a batch of predictions was published."""
    return Asset(name=f"{problem}_scores", uri=f"bc://{problem}/scores", group="scores")
