from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from bc_pipeline.auth import jwks
from bc_pipeline.auth.jwks import KeySet
from bc_pipeline.errors import ConfigError

ALGORITHMS = ("RS256", "ES256")


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Advances the monotonic clock of the module by seconds."""
    offset = 0.0
    real = jwks.monotonic

    def advance(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    monkeypatch.setattr(jwks, "monotonic", lambda: real() + offset)
    return advance


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks",
        "http://127.0.0.1.evil.example/jwks",
        "http://localhost@evil.example/jwks",
        "ftp://127.0.0.1/jwks",
        "file://host/etc/jwks",
        "file:",
        "https://",
        "jwks.json",
        "",
    ],
)
def test_urls_of_other_kinds_are_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KeySet(url, ALGORITHMS)
    assert caught.value.setting == "BC_JWT_JWKS_URL"


@pytest.mark.parametrize(
    "url", ["https://issuer.example/jwks", "http://localhost:1/jwks", "http://[::1]:1/jwks"]
)
def test_accepted_urls(url: str) -> None:
    KeySet(url, ALGORITHMS)


def test_keys_from_a_file(issuer: Any, tmp_path: Path) -> None:
    path = tmp_path / "key set.json"
    path.write_text(json.dumps(issuer.document))
    keys = KeySet(path.as_uri(), ALGORITHMS)
    assert keys.can_fetch("rsa-1")
    asyncio.run(keys.fetch("rsa-1"))
    assert keys.key("rsa-1", "RS256") is not None
    assert issuer.fetches == 0


def test_a_key_is_used_only_with_algorithms_that_it_fits(issuer: Any) -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    other_curve = ec.generate_private_key(ec.SECP384R1())
    private = RSAAlgorithm.to_jwk(issuer.private.foreign, as_dict=True) | {"kid": "private"}
    assert "d" in private
    issuer.document["keys"] += [
        issuer.jwk(issuer.private.foreign, "encrypts", use="enc"),
        issuer.jwk(small, "small"),
        issuer.jwk(other_curve, "curve"),
        private,
        issuer.jwk(issuer.private.foreign, "declared", alg="RS384"),
        {"kty": "oct", "kid": "secret", "k": "AQAB", "alg": "HS256"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": "RSA", "kid": 7, "n": "AQAB", "e": "AQAB"},
        issuer.jwk(issuer.private.foreign, "rsa-1"),
        "nonsense",
    ]
    keys = KeySet(issuer.url, ("RS256", "RS384", "ES256"))
    asyncio.run(keys.fetch("rsa-1"))
    assert set(keys._keys) == {
        ("rsa-1", "RS256"),
        ("ec-1", "ES256"),
        ("declared", "RS384"),
        ("rsa-1", "RS384"),
    }
    assert keys.key("rsa-1", "RS256").key.public_numbers() == (
        issuer.private.rsa.public_key().public_numbers()
    )


def test_invented_key_ids_cause_one_fetch_per_cooldown(
    issuer: Any, advance: Callable[[float], None]
) -> None:
    keys = KeySet(issuer.url, ALGORITHMS)

    async def invent(count: int) -> None:
        await asyncio.gather(*(keys.fetch(f"invented-{number}") for number in range(count)))

    with asyncio.Runner() as runner:
        runner.run(invent(50))
        assert issuer.fetches == 1
        advance(29)
        assert not keys.can_fetch("invented")
        runner.run(invent(50))
        assert issuer.fetches == 1
        advance(2)
        runner.run(invent(50))
        assert issuer.fetches == 2
        # A cached key never causes a fetch.
        advance(60)
        assert not keys.can_fetch("rsa-1")
        runner.run(keys.fetch("rsa-1"))
        assert issuer.fetches == 2


def test_simultaneous_calls_share_one_fetch(issuer: Any) -> None:
    issuer.delay = 0.2
    keys = KeySet(issuer.url, ALGORITHMS)

    async def fetch_twice() -> list[bool]:
        first = asyncio.create_task(keys.fetch("rsa-1"))
        await asyncio.sleep(0.05)
        assert keys.can_fetch("ec-1")
        await asyncio.gather(first, *(keys.fetch("ec-1") for _ in range(20)))
        return [keys.key("rsa-1", "RS256") is not None, keys.key("ec-1", "ES256") is not None]

    assert asyncio.run(fetch_twice()) == [True, True]
    assert issuer.fetches == 1


def test_a_fetch_does_not_block_the_event_loop(issuer: Any) -> None:
    issuer.delay = 0.5
    keys = KeySet(issuer.url, ALGORITHMS)

    async def longest_pause() -> float:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(keys.fetch("rsa-1"))
        longest, last = 0.0, loop.time()
        while not task.done():
            await asyncio.sleep(0.005)
            longest, last = max(longest, loop.time() - last), loop.time()
        return longest

    assert asyncio.run(longest_pause()) < 0.3


def test_a_new_key_of_the_issuer_is_fetched(issuer: Any, advance: Callable[[float], None]) -> None:
    keys = KeySet(issuer.url, ALGORITHMS)
    asyncio.run(keys.fetch("rsa-1"))
    issuer.document = {"keys": [issuer.jwk(issuer.private.foreign, "rsa-2")]}
    advance(31)
    asyncio.run(keys.fetch("rsa-2"))
    assert keys.key("rsa-2", "RS256") is not None
    assert keys.key("rsa-1", "RS256") is None


def test_a_withdrawn_key_is_dropped_after_the_lifespan(
    issuer: Any, advance: Callable[[float], None]
) -> None:
    keys = KeySet(issuer.url, ALGORITHMS)
    asyncio.run(keys.refresh())
    assert keys.key("rsa-1", "RS256") is not None
    issuer.document["keys"] = issuer.document["keys"][1:]
    advance(590)
    asyncio.run(keys.refresh())
    assert issuer.fetches == 1
    advance(20)
    asyncio.run(keys.refresh())
    assert keys.key("rsa-1", "RS256") is None
    assert keys.key("ec-1", "ES256") is not None


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ({"status": 500}, "status 500"),
        ({"status": 302}, "status 302"),
        ({"raw": b"CANARY"}, "not a key set"),
        ({"raw": b"[" * 100_000}, "not a key set"),
        ({"raw": b'{"keys": {}}'}, "not a key set"),
        ({"raw": b'{"keys": []}'}, "no key fits an accepted algorithm"),
        ({"raw": b'{"keys": [' + b"{}," * 100 + b"{}]}"}, "not a key set"),
        ({"raw": b" " * 300_000}, "answer too large"),
    ],
)
def test_keys_stay_in_use_while_the_issuer_fails(
    issuer: Any,
    advance: Callable[[float], None],
    events: list[Any],
    failure: dict[str, Any],
    reason: str,
) -> None:
    keys = KeySet(issuer.url, ALGORITHMS)
    asyncio.run(keys.refresh())
    good = issuer.document
    for name, value in failure.items():
        setattr(issuer, name, value)
    for _ in range(2):
        advance(700)
        asyncio.run(keys.refresh())
    assert keys.key("rsa-1", "RS256") is not None
    assert keys.fetch_error == reason
    assert [event["event"] for event in events] == ["jwks.fetched", "jwks.fetch_failed"]
    assert "CANARY" not in str(events)
    issuer.status, issuer.raw, issuer.document = 200, None, good
    # After a failure the next attempt follows soon.
    advance(6)
    asyncio.run(keys.refresh())
    assert keys.fetch_error == ""


def test_keys_stay_in_use_while_the_issuer_refuses_connections(
    issuer: Any, advance: Callable[[float], None]
) -> None:
    keys = KeySet(issuer.url, ALGORITHMS)
    asyncio.run(keys.refresh())
    keys._source = "http://127.0.0.1:1/jwks"
    advance(700)
    asyncio.run(keys.refresh())
    assert keys.fetch_error == "ConnectError"
    assert keys.key("rsa-1", "RS256") is not None


@pytest.mark.parametrize("url", ["https://login..example/jwks", "https://x.example:99999/jwks"])
def test_an_impossible_host_is_a_fetch_error(url: str) -> None:
    keys = KeySet(url, ALGORITHMS)
    asyncio.run(keys.refresh())
    assert keys.fetch_error
    assert keys.key("rsa-1", "RS256") is None
