"""OAuth2 bearer tokens: JWTs that an issuer signed, checked against its published keys."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import structlog

from bc_pipeline.access.caller import Caller
from bc_pipeline.access.jwks import KeySet
from bc_pipeline.access.scopes import effective
from bc_pipeline.errors import KeyRefused
from bc_pipeline.settings import Settings

_LIMIT_BYTES = 8192
_LIMIT_NAME = 200
_REMEMBERED = 2048
# Words for logs and metrics, by class of the library's error.
_REASONS = {
    "ExpiredSignatureError": "expired",
    "ImmatureSignatureError": "not-yet-valid",
    "InvalidAudienceError": "audience",
    "InvalidIssuerError": "issuer",
    "InvalidSignatureError": "signature",
    "MissingRequiredClaimError": "claim-missing",
}
_REQUIRED = ["exp", "iss", "aud", "sub"]


def looks_like_token(raw: bytes) -> bool:
    """Whether credentials have the shape of a signed JWT rather than of a key."""
    return raw.count(b".") == 2 and raw.startswith(b"ey")


class TokenReader:
    """Checks tokens; one whose key is at hand needs no waiting.

    A token that was accepted is known by its digest until it expires or the issuer's keys
    are read anew: to check a signature takes longer than to answer a prediction.

    Attributes
    ----------
    keys : KeySet
    """

    def __init__(
        self, keys: KeySet, issuer: str, audience: str, algorithms: tuple[str, ...], leeway: int
    ) -> None:
        self.keys = keys
        self._issuer = issuer
        self._audience = audience
        self._algorithms = frozenset(algorithms)
        self._leeway = leeway
        # Digest of the token: its caller, and the seconds since 1970 at which it ends.
        self._accepted: dict[bytes, tuple[Caller, float]] = {}
        self._edition = keys.edition

    @classmethod
    def of(cls, settings: Settings) -> TokenReader | None:
        """A reader for the issuer that is set, or None.

        Raises
        ------
        ConfigError
        """
        if not settings.jwt_issuer:
            return None
        return cls(
            KeySet(settings.jwt_jwks_url, settings.jwt_algorithms),
            settings.jwt_issuer,
            settings.jwt_audience,
            settings.jwt_algorithms,
            settings.jwt_leeway_seconds,
        )

    def read(self, raw: bytes) -> Caller | None:
        """Check a token.

        Returns
        -------
        Caller or None
            None where its key is not at hand but may be the issuer's: call `fetch_for`.

        Raises
        ------
        KeyRefused
        """
        if self._edition != self.keys.edition:
            self._edition = self.keys.edition
            self._accepted.clear()
        digest = hashlib.sha256(raw).digest()
        known = self._accepted.get(digest)
        if known is not None and time.time() < known[1]:
            return known[0]
        checked = self._check(raw)
        if checked is None:
            return None
        self._accepted.pop(digest, None)
        while len(self._accepted) >= _REMEMBERED:
            del self._accepted[next(iter(self._accepted))]
        self._accepted[digest] = checked
        return checked[0]

    def _check(self, raw: bytes) -> tuple[Caller, float] | None:
        """Check the signature and every claim: the caller, and until when."""
        import jwt

        token, key_id, algorithm = self._opened(raw)
        key = self.keys.key(key_id, algorithm)
        if key is None:
            if self.keys.may_ask(key_id):
                return None
            _refuse("unknown-key")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": _REQUIRED},
            )
            return _caller(claims), int(claims["exp"]) + self._leeway
        except jwt.PyJWTError as error:
            _refuse(_REASONS.get(type(error).__name__, "malformed"))
        except (ValueError, TypeError, OverflowError, RecursionError):
            _refuse("malformed")

    async def fetch_for(self, raw: bytes) -> None:
        """Ask the issuer for the key of a token, unless it was asked a moment ago.

        Raises
        ------
        KeyRefused
            Where it is no token that could be accepted.
        """
        _, key_id, _ = self._opened(raw)
        await self.keys.ask_for(key_id)

    async def refresh(self) -> None:
        await self.keys.refresh()

    def _opened(self, raw: bytes) -> tuple[str, str, str]:
        """A token with what its header claims, which nothing has verified yet."""
        import jwt

        if len(raw) > _LIMIT_BYTES:
            _refuse("too-long")
        try:
            token = raw.decode("ascii")
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            _refuse("malformed")
        key_id, algorithm = header.get("kid"), header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            _refuse("algorithm")
        if not isinstance(key_id, str) or not 0 < len(key_id) <= _LIMIT_NAME:
            _refuse("no-key-id")
        if "crit" in header:
            _refuse("critical-extension")
        return token, key_id, algorithm


def _caller(claims: Mapping[str, Any]) -> Caller:
    subject = claims["sub"]
    # The subject goes into logs and the prediction log.
    if not isinstance(subject, str) or not 0 < len(subject) <= _LIMIT_NAME:
        _refuse("subject")
    if not subject.isprintable():
        _refuse("subject")
    # No key's name has a colon: nobody's subject passes for a key in a log.
    name = f"token:{subject}"
    return Caller(name, name, effective(_granted(claims)))


def _granted(claims: Mapping[str, Any]) -> list[str]:
    """The words of ``scope`` and of ``scp``, which issuers write as a text or as a list."""
    words: list[str] = []
    for name in ("scope", "scp"):
        value = claims.get(name)
        if isinstance(value, str):
            words += value.split()
        elif isinstance(value, list):
            words += [word for word in value if isinstance(word, str)]
    return words


def _refuse(reason: str) -> NoReturn:
    structlog.get_logger().warning("access.refused", kind="token", reason=reason, key_id="")
    raise KeyRefused("The credentials are not accepted.", reason=reason)
