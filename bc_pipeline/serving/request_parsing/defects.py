"""The error for a request that does not have the expected form."""

from __future__ import annotations

from collections.abc import Sequence

from bc_pipeline.errors import Defect, SchemaMismatch, counted


def schema_mismatch(defects: Sequence[Defect], count: int | None = None) -> SchemaMismatch:
    """The error for defects of a request.

    Parameters
    ----------
    count : int or None
        Of all defects, where `defects` are the first of more.
    """
    count = len(defects) if count is None else count
    listed = "" if count == len(defects) else f" for the first {len(defects)}"
    return SchemaMismatch(
        f"The input has {counted(count, 'defect')}; see 'defects'{listed}.",
        source="request",
        defects=tuple(defects),
    )


def mismatch_at(where: str | None, reason: str) -> SchemaMismatch:
    """The error for one defect, at a member of the request."""
    return schema_mismatch([Defect(reason, column=where)])
