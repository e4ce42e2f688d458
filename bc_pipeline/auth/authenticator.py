"""Identify the caller of a request by its credentials.

A key is read from ``X-API-Key: K`` or ``Authorization: Bearer K``, a token from the latter. A
request with more than one is refused: a proxy in front may have checked another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn
from urllib.parse import parse_qsl

import structlog

from bc_pipeline.auth.callers import Caller, Scope
from bc_pipeline.auth.key_cache import KeyCache
from bc_pipeline.auth.tokens import TokenReader, looks_like_token
from bc_pipeline.errors import KeyRefused, ScopeMissing
from bc_pipeline.settings import Settings

Headers = Sequence[tuple[bytes, bytes]]

# Query parameters in which clients are known to send a key or token.
_QUERY_NAMES = frozenset({"api_key", "apikey", "api-key", "x-api-key", "access_token", "key"})
_REMEDY = "Send one, as 'X-API-Key: <key>' or 'Authorization: Bearer <key or token>'."


class Authenticator:
    """Authenticates and authorizes requests.

    Attributes
    ----------
    key_cache : KeyCache
    tokens : TokenReader or None
        None where tokens are not accepted.
    """

    def __init__(self, key_cache: KeyCache, tokens: TokenReader | None = None) -> None:
        self.key_cache = key_cache
        self.tokens = tokens

    @classmethod
    def from_settings(cls, settings: Settings) -> Authenticator:
        """Read the key store, and accept tokens if an issuer is set.

        Raises
        ------
        ConfigError
            Where the store is damaged, or missing although tokens are not accepted.
        """
        tokens = TokenReader.from_settings(settings)
        return cls(KeyCache(settings.service_keys, optional=tokens is not None), tokens)

    async def authorize(self, headers: Headers, query: bytes, scope: Scope) -> Caller:
        """The caller of a request, if its credentials allow the scope.

        Parameters
        ----------
        headers : sequence of pairs of bytes
            As in ASGI: lower-case names.

        Raises
        ------
        KeyRefused
        ScopeMissing
        """
        caller = await self.identify(headers, query)
        if scope not in caller.scopes:
            structlog.get_logger().warning(
                "access.scope_missing", key_id=caller.key_id, scope=scope
            )
            raise ScopeMissing(
                f"The credentials do not allow this: the scope {scope!r} is needed.", scope=scope
            )
        return caller

    def caller_of_key(self, headers: Headers) -> Caller | None:
        """The caller of a request with an API key; None for any other."""
        try:
            return self.key_cache.caller(_credentials(headers)[0])
        except KeyRefused:
            return None

    async def identify(self, headers: Headers, query: bytes) -> Caller:
        """As `authorize`, whatever the scopes.

        Raises
        ------
        KeyRefused
        """
        if query:
            _refuse_in_query(query)
        raw, bearer = _credentials(headers)
        caller = self.key_cache.caller(raw)
        if caller is None:
            if not bearer or self.tokens is None or not looks_like_token(raw):
                _refuse("key", *self.key_cache.rejection(raw))
            caller = await self.tokens.authenticate(raw)
        return caller

    def refresh(self) -> None:
        """Load new, revoked and rotated keys; cheap, for a timer."""
        self.key_cache.refresh()

    async def refresh_tokens(self) -> None:
        """Fetch the issuer's keys again if they are old; cheap otherwise, for a timer."""
        if self.tokens is not None:
            await self.tokens.keys.refresh()


def _refuse(kind: str, reason: str, key_id: str = "") -> NoReturn:
    """Log the reason, which the client is not shown."""
    structlog.get_logger().warning("access.refused", kind=kind, reason=reason, key_id=key_id)
    raise KeyRefused("The credentials are not accepted.", reason=reason)


def _credentials(headers: Headers) -> tuple[bytes, bool]:
    """The key or token of a request, and whether it was sent as ``Bearer``."""
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
        raise KeyRefused("The request carries no credentials.", _REMEDY, reason="none")
    if not raw:
        raise KeyRefused(
            "The request carries no key or token where one is expected.", _REMEDY, reason="none"
        )
    return raw, bearer


def _refuse_several() -> NoReturn:
    raise KeyRefused("The request carries more than one key or token.", _REMEDY, reason="several")


def _refuse_in_query(query: bytes) -> None:
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name.strip().casefold() in _QUERY_NAMES:
            raise KeyRefused(
                "A key or token must not be sent in the address, which servers and proxies log.",
                f"Take that one out of use. {_REMEDY}",
                reason="query",
            )
