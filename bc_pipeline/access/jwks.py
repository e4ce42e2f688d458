"""Public keys of the token issuer: fetched off the event loop, kept, and asked for sparingly."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from bc_pipeline.errors import ConfigError

# Somebody who sends invented key ids must not make us a burden for the issuer.
ASK_AGAIN_SECONDS = 30.0
RETRY_SECONDS = 5.0
# After this long a key that the issuer withdrew is noticed without being asked for.
STALE_SECONDS = 600.0
_TIMEOUT_SECONDS = 5.0
_LIMIT_BYTES = 256 * 1024
_LIMIT_KEYS = 100
_MINIMUM_RSA_BITS = 2048
_OF_CURVE = {"P-256": "ES256", "P-384": "ES384", "Ed25519": "EdDSA"}


class KeySet:
    """The issuer's keys by key id and algorithm.

    A key is filed under each algorithm that it is fit for, so a token that names another
    one finds none: an RSA key can never be taken for the secret of an HMAC.

    Parameters
    ----------
    url : str
        ``https``, or ``file``, or ``http`` on this machine.
    algorithms : tuple of str
        That are accepted at all.

    Attributes
    ----------
    edition : int
        One more with each good answer of the issuer.
    fault : str
        Why the issuer's keys could not be had last time, or an empty string. Keys that
        were good before then go on.

    Raises
    ------
    ConfigError
        Where the address is of another kind.
    """

    def __init__(self, url: str, algorithms: tuple[str, ...]) -> None:
        self._url = url
        self._path = _checked(url)
        self._algorithms = algorithms
        self._keys: dict[tuple[str, str], Any] = {}
        self._ids: frozenset[str] = frozenset()
        self._fetching = asyncio.Lock()
        self._next = 0.0
        self._good_at = 0.0
        self.edition = 0
        self.fault = ""

    def key(self, key_id: str, algorithm: str) -> Any | None:
        return self._keys.get((key_id, algorithm))

    def may_ask(self, key_id: str) -> bool:
        """Whether the issuer may have a key of that id, and is being asked or can be."""
        if key_id in self._ids:
            return False
        return self._fetching.locked() or monotonic() >= self._next

    async def ask_for(self, key_id: str) -> None:
        """Ask the issuer for its keys, once for all that wait."""
        if not self.may_ask(key_id):
            return
        async with self._fetching:
            if key_id not in self._ids and monotonic() >= self._next:
                await self._fetch()

    async def refresh(self) -> None:
        """Ask where there is no good answer yet, or it is old; the keys at hand go on."""
        now = monotonic()
        fresh = self._ids and now - self._good_at < STALE_SECONDS
        if fresh or now < self._next or self._fetching.locked():
            return
        async with self._fetching:
            await self._fetch()

    async def _fetch(self) -> None:
        self._next = monotonic() + RETRY_SECONDS
        try:
            found = await asyncio.to_thread(self._read)
        except _Unusable as error:
            reason = str(error)
            if reason != self.fault:
                self.fault = reason
                structlog.get_logger().error("jwks.away", reason=reason, kept=len(self._ids))
            return
        self.fault = ""
        self._keys = found
        self.edition += 1
        self._ids = frozenset(key_id for key_id, _ in found)
        self._good_at = monotonic()
        self._next = self._good_at + ASK_AGAIN_SECONDS
        structlog.get_logger().info("jwks.read", keys=len(self._ids))

    def _read(self) -> dict[tuple[str, str], Any]:
        data = _download(self._url) if self._path is None else _read_file(self._path)
        return _parse(data, self._algorithms)


class _Unusable(Exception):
    """The issuer's keys could not be had; says why without quoting it."""


def _checked(url: str) -> Path | None:
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
    """The document at a URL, within a size and, block by block, a time."""
    import httpx

    received = bytearray()
    deadline = monotonic() + _TIMEOUT_SECONDS
    try:
        with (
            httpx.Client(
                timeout=_TIMEOUT_SECONDS,
                # A redirect could lead to another host, or to plain HTTP; so could a proxy
                # that is set for plain HTTP.
                follow_redirects=False,
                trust_env=url.startswith("https:"),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            ) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise _Unusable(f"answered {response.status_code}")
            for block in response.iter_raw():
                received += block
                if len(received) > _LIMIT_BYTES:
                    raise _Unusable("answered too much")
                if monotonic() > deadline:
                    raise _Unusable("answered too slowly")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise _Unusable(type(error).__name__) from None
    return bytes(received)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise _Unusable(type(error).__name__) from None
    if len(data) > _LIMIT_BYTES:
        raise _Unusable("answered too much")
    return data


def _parse(data: bytes, algorithms: tuple[str, ...]) -> dict[tuple[str, str], Any]:
    try:
        document = json.loads(data)
        entries = document["keys"]
        if not isinstance(entries, list) or len(entries) > _LIMIT_KEYS:
            raise _Unusable("is no key set")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _Unusable("is no key set") from None
    found: dict[tuple[str, str], Any] = {}
    for entry in entries:
        if not isinstance(entry, Mapping):
            continue
        key_id = entry.get("kid")
        if not isinstance(key_id, str) or entry.get("use", "sig") != "sig":
            continue
        for algorithm in _fit(entry, algorithms):
            key = _key(entry, algorithm)
            if key is not None:
                found.setdefault((key_id, algorithm), key)
    if not found:
        raise _Unusable("holds no key that is fit for an accepted algorithm")
    return found


def _fit(entry: Mapping[str, Any], algorithms: tuple[str, ...]) -> list[str]:
    if "d" in entry:
        # A private key that is published is everybody's.
        return []
    declared = entry.get("alg")
    kind = entry.get("kty")
    return [
        algorithm
        for algorithm in algorithms
        if declared in (None, algorithm)
        and (
            (kind == "RSA" and algorithm[:2] in ("RS", "PS"))
            or (kind in ("EC", "OKP") and _OF_CURVE.get(str(entry.get("crv"))) == algorithm)
        )
    ]


def _key(entry: Mapping[str, Any], algorithm: str) -> Any | None:
    import jwt

    try:
        key = jwt.PyJWK(dict(entry), algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    too_small = entry.get("kty") == "RSA" and key.key.key_size < _MINIMUM_RSA_BITS
    return None if too_small else key
