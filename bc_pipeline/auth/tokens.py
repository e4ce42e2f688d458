"""OAuth2 bearer tokens: JWTs, verified with the issuer's published keys."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NoReturn

import structlog

from bc_pipeline.auth.callers import Caller, effective
from bc_pipeline.auth.jwks import KeySet
from bc_pipeline.errors import KeyRefused
from bc_pipeline.settings import Settings

_LIMIT_BYTES = 8192
_LIMIT_NAME = 200
_CACHE_SIZE = 2048
# Reasons for logs and metrics, by class of PyJWT's error.
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
    """Whether credentials look like a signed JWT rather than an API key."""
    return raw.count(b".") == 2 and raw.startswith(b"ey")


class TokenReader:
    """Verifies tokens.

    An accepted token is cached by its digest until it expires or the issuer's keys are fetched
    again: verifying a signature takes longer than answering a prediction.

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
        # By digest of the token: its caller, and when it expires in seconds since 1970.
        self._accepted: dict[bytes, tuple[Caller, float]] = {}
        self._revision = keys.revision
        # Loaded now: an import at the first token would hold up every other request.
        import_module("jwt")

    @classmethod
    def from_settings(cls, settings: Settings) -> TokenReader | None:
        """A reader for the configured issuer, or None.

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

    async def authenticate(self, raw: bytes) -> Caller:
        """Verify a token; the issuer's keys are fetched first where it needs that.

        Raises
        ------
        KeyRefused
        """
        caller = self.read(raw)
        if caller is None:
            _, key_id, _ = self._parse(raw)
            await self.keys.fetch(key_id)
            caller = self.read(raw)
        return caller or _refuse("unknown-key")

    def read(self, raw: bytes) -> Caller | None:
        """Verify a token.

        Returns
        -------
        Caller or None
            None where its key may have to be fetched from the issuer, as `authenticate` does.

        Raises
        ------
        KeyRefused
        """
        if self._revision != self.keys.revision:
            self._revision = self.keys.revision
            self._accepted.clear()
        digest = hashlib.sha256(raw).digest()
        accepted = self._accepted.get(digest)
        if accepted is not None and time.time() < accepted[1]:
            return accepted[0]
        verified = self._verify(raw)
        if verified is None:
            return None
        self._accepted.pop(digest, None)
        while len(self._accepted) >= _CACHE_SIZE:
            del self._accepted[next(iter(self._accepted))]
        self._accepted[digest] = verified
        return verified[0]

    def _verify(self, raw: bytes) -> tuple[Caller, float] | None:
        """Verify signature and claims; returns the caller and the time of expiry."""
        import jwt

        token, key_id, algorithm = self._parse(raw)
        key = self.keys.key(key_id, algorithm)
        if key is None:
            if self.keys.can_fetch(key_id):
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

    def _parse(self, raw: bytes) -> tuple[str, str, str]:
        """The token, and key id and algorithm of its header, which is not verified yet."""
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
    # The subject is written to logs and to the prediction log.
    is_valid = isinstance(subject, str) and 0 < len(subject) <= _LIMIT_NAME
    if not is_valid or not subject.isprintable():
        _refuse("subject")
    # Names of keys have no colon: in a log, no subject looks like a key.
    name = f"token:{subject}"
    return Caller(name, name, effective(_scopes(claims)))


def _scopes(claims: Mapping[str, Any]) -> list[str]:
    """The scopes of ``scope`` and ``scp``, which issuers write as text or as a list."""
    scopes: list[str] = []
    for name in ("scope", "scp"):
        value = claims.get(name)
        if isinstance(value, str):
            scopes += value.split()
        elif isinstance(value, list):
            scopes += [item for item in value if isinstance(item, str)]
    return scopes


def _refuse(reason: str) -> NoReturn:
    structlog.get_logger().warning("access.refused", kind="token", reason=reason, key_id="")
    raise KeyRefused("The credentials are not accepted.", reason=reason)
