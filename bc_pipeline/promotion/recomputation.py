"""Compares an evaluation with one that was computed again from the signed models and rows."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.errors import EvidenceMismatch

# Two machines may differ in the last bits of a probability.
TOLERANCE = 1e-9
_SHOWN = 10


def require_recomputed(stored: Evaluation, computed: Evaluation) -> None:
    """Refuse an evaluation that differs from what follows from models and rows.

    Raises
    ------
    EvidenceMismatch
        Naming the fields that differ.
    """
    different = list(
        dict.fromkeys(_differences(msgspec.to_builtins(stored), msgspec.to_builtins(computed)))
    )
    if different:
        more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        raise EvidenceMismatch(
            f"The evaluation of {stored.challenger.version} is not what its model gives on its "
            f"rows: {', '.join(different[:_SHOWN])}{more} differ.",
            "Run the evaluate step again, and find out who can write to the volume.",
            champion=stored.champion.version if stored.champion else "",
            challenger=stored.challenger.version,
        )


def _differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Names of the fields that differ; those of a list are the list's."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            field
            for key in [*one, *(key for key in other if key not in one)]
            for field in _differences(
                one.get(key), other.get(key), f"{name}.{key}" if name else str(key)
            )
        ]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [name]
        pairs = zip(one, other, strict=True)
        return [field for a, b in pairs for field in _differences(a, b, name)]
    if isinstance(one, float) and isinstance(other, float):
        near = math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        return [] if near or (math.isnan(one) and math.isnan(other)) else [name]
    return [] if one == other else [name]
