"""Who sent a request, once the credentials were accepted."""

from __future__ import annotations

from dataclasses import dataclass

from bc_pipeline.access.scopes import Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """One key or one token subject.

    Attributes
    ----------
    name : str
        Of the key, or ``token:`` and the token's subject.
    key_id : str
        Public id of the key, or the token's name: what requests are counted by.
    scopes : frozenset of Scope
        All that is allowed, with what ``admin`` implies.
    """

    name: str
    key_id: str
    scopes: frozenset[Scope]
