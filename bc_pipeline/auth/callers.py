"""Callers, and the scopes that their credentials allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["predict", "outcomes", "upload", "retrain", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_ALL: frozenset[Scope] = frozenset(SCOPES)


def effective(granted: Iterable[str]) -> frozenset[Scope]:
    """The scopes that a list grants: ``admin`` implies all; unknown names are ignored."""
    known = _ALL.intersection(granted)
    return _ALL if "admin" in known else known


@dataclass(frozen=True, slots=True)
class Caller:
    """One key or one token subject.

    Attributes
    ----------
    name : str
        Name of the key, or ``token:`` and the token's subject.
    key_id : str
        Public id of the key, or the token's name; rate limits count by it.
    scopes : frozenset of Scope
        All allowed ones, with those that ``admin`` implies.
    """

    name: str
    key_id: str
    scopes: frozenset[Scope]

    @property
    def label(self) -> str:
        """Name and id, for people; nothing of the secret."""
        is_key = self.key_id != self.name
        return f"{self.name} (API key {self.key_id})" if is_key else self.name
