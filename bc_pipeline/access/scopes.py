"""What credentials may allow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

Scope = Literal["predict", "outcomes", "upload", "retrain", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_ALL: frozenset[Scope] = frozenset(SCOPES)


def effective(granted: Iterable[str]) -> frozenset[Scope]:
    """The scopes that granted words stand for: ``admin`` is all, an unknown word is none."""
    known = _ALL.intersection(granted)
    return _ALL if "admin" in known else known
