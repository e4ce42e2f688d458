"""The token issuer's public keys: fetched outside of the event loop, seldom, and cached.

A key set is read from a URL or a file, within limits of its size and time, without redirects.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import structlog

from bc_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from jwt import PyJWK

# Tokens with invented key ids must not cause more requests to the issuer.
COOLDOWN_SECONDS = 30.0
RETRY_SECONDS = 5.0
# Keys are fetched again after this time, so that a withdrawn key is noticed.
LIFESPAN_SECONDS = 600.0
_TIMEOUT_SECONDS = 5.0
_LIMIT_BYTES = 256 * 1024
_LIMIT_KEYS = 100
_MINIMUM_RSA_BITS = 2048
_ALGORITHM_OF_CURVE = {"P-256": "ES256", "P-384": "ES384", "Ed25519": "EdDSA"}


class JwksUnavailable(Exception):
    """The key set could not be read; says why without quoting it."""


class KeySet:
    """The issuer's keys by key id and algorithm.

    Keys stay in use while the issuer is unavailable.

    Parameters
    ----------
    url : str
        ``https``, or ``file``, or ``http`` on this machine.
    algorithms : tuple of str
        The accepted ones.

    Attributes
    ----------
    revision : int
        Counts successful fetches.
    fetch_error : str
        Why the last fetch failed, or an empty string.

    Raises
    ------
    ConfigError
        Where the URL is of another kind.
    """

    def __init__(self, url: str, algorithms: tuple[str, ...]) -> None:
        self._source = _file_of(url) or url
        self._algorithms = algorithms
        self._keys: dict[tuple[str, str], PyJWK] = {}
        self._ids: frozenset[str] = frozenset()
        self._fetching = asyncio.Lock()
        self._next_fetch = 0.0
        self._fetched_at = 0.0
        self.revision = 0
        self.fetch_error = ""

    def key(self, key_id: str, algorithm: str) -> PyJWK | None:
        return self._keys.get((key_id, algorithm))

    def can_fetch(self, key_id: str) -> bool:
        """Whether a fetch that is under way, or allowed now, may bring a key of that id."""
        if key_id in self._ids:
            return False
        return self._fetching.locked() or monotonic() >= self._next_fetch

    async def fetch(self, key_id: str) -> None:
        """Fetch the keys for a key id; simultaneous calls share one fetch."""
        if not self.can_fetch(key_id):
            return
        async with self._fetching:
            if key_id not in self._ids and monotonic() >= self._next_fetch:
                await self._fetch()

    async def refresh(self) -> None:
        """Fetch the keys if there are none yet or their lifespan is over; for a timer."""
        now = monotonic()
        fresh = self._ids and now - self._fetched_at < LIFESPAN_SECONDS
        if fresh or now < self._next_fetch or self._fetching.locked():
            return
        async with self._fetching:
            await self._fetch()

    async def _fetch(self) -> None:
        log = structlog.get_logger()
        self._next_fetch = monotonic() + RETRY_SECONDS
        try:
            self._keys = await asyncio.to_thread(_read_keys, self._source, self._algorithms)
        except JwksUnavailable as error:
            reason = str(error)
            if reason != self.fetch_error:
                self.fetch_error = reason
                log.error("jwks.fetch_failed", reason=reason, cached=len(self._ids))
            return
        self.fetch_error = ""
        self.revision += 1
        self._ids = frozenset(key_id for key_id, _ in self._keys)
        self._fetched_at = monotonic()
        self._next_fetch = self._fetched_at + COOLDOWN_SECONDS
        log.info("jwks.fetched", keys=len(self._ids))


def _read_keys(source: str | Path, algorithms: tuple[str, ...]) -> dict[tuple[str, str], PyJWK]:
    """Read a key set; the keys by key id and algorithm, of several the first.

    Each key is listed once for each accepted algorithm that it fits, so that a token can use it
    with no other algorithm: an RSA key, for one, never as the secret of an HMAC.

    Raises
    ------
    JwksUnavailable
    """
    # PyJWT and cryptography are loaded only where tokens are accepted.
    import jwt

    data = _read(source) if isinstance(source, Path) else _download(source)
    try:
        entries = json.loads(data)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise JwksUnavailable("not a key set") from None
    if not isinstance(entries, list) or len(entries) > _LIMIT_KEYS:
        raise JwksUnavailable("not a key set")
    fitting = [
        entry | {"alg": algorithm}
        for entry in entries
        if isinstance(entry, dict)
        for algorithm in algorithms
        if _fits(entry, algorithm)
    ]
    try:
        usable = jwt.PyJWKSet(fitting).keys
    except jwt.PyJWTError:
        usable = []
    keys = {
        (str(key.key_id), key.algorithm_name): key
        for key in reversed(usable)
        if key.key_type != "RSA" or key.key.key_size >= _MINIMUM_RSA_BITS
    }
    if not keys:
        raise JwksUnavailable("no key fits an accepted algorithm")
    return keys


def _file_of(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        return Path(unquote(parts.path))
    if parts.hostname and (
        parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
    ):
        return None
    raise ConfigError(
        "BC_JWT_JWKS_URL must be an https address, a file, or on this machine.",
        "Keys that come over plain HTTP could be anybody's.",
        setting="BC_JWT_JWKS_URL",
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _download(url: str) -> bytes:
    """The document at a URL, within a limit of its size and of the time for all of it."""
    import httpx

    received = bytearray()
    deadline = monotonic() + _TIMEOUT_SECONDS
    try:
        with (
            httpx.Client(
                timeout=_TIMEOUT_SECONDS,
                # A redirect could lead to another host or to plain HTTP, as could a proxy that
                # the environment names for plain HTTP.
                follow_redirects=False,
                trust_env=url.startswith("https:"),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            ) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise JwksUnavailable(f"status {response.status_code}")
            for block in response.iter_raw():
                received += block
                if len(received) > _LIMIT_BYTES:
                    raise JwksUnavailable("answer too large")
                if monotonic() > deadline:
                    raise JwksUnavailable("answer too slow")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise JwksUnavailable(type(error).__name__) from None
    return bytes(received)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise JwksUnavailable(type(error).__name__) from None
    if len(data) > _LIMIT_BYTES:
        raise JwksUnavailable("answer too large")
    return data


def _fits(entry: dict[str, Any], algorithm: str) -> bool:
    """Whether a key is public, has an id, and may verify signatures of an algorithm."""
    if "d" in entry or not entry.get("kid") or not isinstance(entry["kid"], str):
        return False
    if entry.get("use") not in (None, "sig"):
        return False
    if entry.get("alg") not in (None, algorithm):
        return False
    if entry.get("kty") == "RSA":
        return algorithm[:2] in ("RS", "PS")
    return (
        entry.get("kty") in ("EC", "OKP")
        and _ALGORITHM_OF_CURVE.get(str(entry.get("crv"))) == algorithm
    )
