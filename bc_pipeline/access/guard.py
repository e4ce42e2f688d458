"""The credentials of a request, turned into who sent it.

A key is taken from ``X-API-Key: K`` or ``Authorization: Bearer K``, a token from the latter.
Where a request carries more than one, none is believed: a proxy may have looked at another
one than the service would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn
from urllib.parse import parse_qsl

import structlog

from bc_pipeline.access.caller import Caller
from bc_pipeline.access.ring import KeyRing
from bc_pipeline.access.scopes import Scope
from bc_pipeline.access.tokens import TokenReader, looks_like_token
from bc_pipeline.errors import KeyRefused, ScopeMissing
from bc_pipeline.settings import Settings

__all__ = ["Caller", "Guard"]

Headers = Sequence[tuple[bytes, bytes]]

# Names under which clients are known to put a key or token into the query.
_QUERY_NAMES = frozenset({"api_key", "apikey", "api-key", "x-api-key", "access_token", "key"})
_HOW = "Send one, as 'X-API-Key: <key>' or 'Authorization: Bearer <key or token>'."


class Guard:
    """Says who may do what.

    Attributes
    ----------
    ring : KeyRing
    tokens : TokenReader or None
        None where no issuer is set.
    """

    def __init__(self, ring: KeyRing, tokens: TokenReader | None = None) -> None:
        self.ring = ring
        self.tokens = tokens

    @classmethod
    def of(cls, settings: Settings) -> Guard:
        """Read the key store and prepare for tokens.

        Raises
        ------
        ConfigError
            Where the store is damaged, or missing while no tokens are accepted either.
        """
        tokens = TokenReader.of(settings)
        return cls(KeyRing(settings.service_keys, optional=tokens is not None), tokens)

    def admit(self, headers: Headers, query: bytes, scope: Scope) -> Caller | None:
        """Who sent a request, if the credentials allow the scope.

        Parameters
        ----------
        headers : sequence of pairs of bytes
            As ASGI gives them: lower-case names.

        Returns
        -------
        Caller or None
            None where the credentials are a token whose issuer must be asked for its key:
            call `admit_token`, which waits for the answer.

        Raises
        ------
        KeyRefused
        ScopeMissing
        """
        caller = self._known(headers, query)
        if caller is not None and scope not in caller.scopes:
            _refuse_scope(caller, scope)
        return caller

    def holder(self, headers: Headers) -> Caller | None:
        """Who holds the one key that a request carries; None where `admit` must tell."""
        try:
            return self.ring.caller(_credentials(headers)[0])
        except KeyRefused:
            return None

    def _known(self, headers: Headers, query: bytes) -> Caller | None:
        """Who sent a request, as `admit`, whatever they may do."""
        if query:
            _refuse_in_query(query)
        raw, bearer = _credentials(headers)
        caller = self.ring.caller(raw)
        if caller is None:
            if not bearer or self.tokens is None or not looks_like_token(raw):
                _refuse("key", *self.ring.refused(raw))
            caller = self.tokens.read(raw)
        return caller

    async def admit_token(self, headers: Headers, query: bytes, scope: Scope) -> Caller:
        """The same, but for a token whose key is not at hand the issuer is asked.

        Raises
        ------
        KeyRefused
        ScopeMissing
        """
        caller = await self.identify(headers, query)
        if scope not in caller.scopes:
            _refuse_scope(caller, scope)
        return caller

    async def identify(self, headers: Headers, query: bytes) -> Caller:
        """Who sent a request, whatever they may do.

        Raises
        ------
        KeyRefused
        """
        caller = self._known(headers, query)
        if caller is None and self.tokens is not None:
            raw, _ = _credentials(headers)
            await self.tokens.fetch_for(raw)
            caller = self._known(headers, query)
        if caller is None:
            _refuse("token", "unknown-key")
        return caller

    def refresh(self) -> None:
        """Notice keys that were made, revoked or rotated; cheap, for a timer."""
        self.ring.refresh()

    async def refresh_tokens(self) -> None:
        """Ask the issuer again where its keys are getting old; cheap otherwise, for a timer."""
        if self.tokens is not None:
            await self.tokens.refresh()


def _refuse(kind: str, reason: str, key_id: str = "") -> NoReturn:
    """Log why, and tell the client no more than that the credentials are not accepted."""
    structlog.get_logger().warning("access.refused", kind=kind, reason=reason, key_id=key_id)
    raise KeyRefused("The credentials are not accepted.", reason=reason)


def _credentials(headers: Headers) -> tuple[bytes, bool]:
    """The one key or token of a request, and whether it came as ``Bearer``."""
    key: bytes | None = None
    authorization: bytes | None = None
    for name, value in headers:
        if name == b"x-api-key":
            if key is not None:
                _refuse_several()
            key = value
        elif name == b"authorization":
            if authorization is not None:
                _refuse_several()
            authorization = value
    if key is not None:
        if authorization is not None:
            _refuse_several()
        raw, bearer = key.strip(), False
    elif authorization is not None:
        scheme, _, credentials = authorization.strip().partition(b" ")
        raw, bearer = credentials.strip() if scheme.lower() == b"bearer" else b"", True
    else:
        raise KeyRefused("The request carries no credentials.", _HOW, reason="none")
    if not raw:
        raise KeyRefused(
            "The request carries no key or token where one is expected.", _HOW, reason="none"
        )
    return raw, bearer


def _refuse_several() -> NoReturn:
    raise KeyRefused("The request carries more than one key or token.", _HOW, reason="several")


def _refuse_in_query(query: bytes) -> None:
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name.strip().casefold() in _QUERY_NAMES:
            raise KeyRefused(
                "A key or token must not be sent in the address, which servers and proxies log.",
                f"Take that one out of use. {_HOW}",
                reason="query",
            )


def _refuse_scope(caller: Caller, scope: Scope) -> NoReturn:
    structlog.get_logger().warning("access.scope_missing", key_id=caller.key_id, scope=scope)
    raise ScopeMissing(
        f"The credentials do not allow this: the scope {scope!r} is needed.", scope=scope
    )
