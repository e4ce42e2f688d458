from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from bc_pipeline.access import jwks
from bc_pipeline.access.jwks import KeySet
from bc_pipeline.errors import ConfigError

ALGORITHMS = ("RS256", "ES256")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the monotonic clock of the module go on by seconds."""
    passed = 0.0
    real = jwks.monotonic

    def go_on(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    monkeypatch.setattr(jwks, "monotonic", lambda: real() + passed)
    return go_on


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
def test_keys_come_over_a_safe_way_only(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KeySet(url, ALGORITHMS)
    assert caught.value.setting == "BC_JWT_JWKS_URL"


@pytest.mark.parametrize(
    "url", ["https://issuer.example/jwks", "http://localhost:1/jwks", "http://[::1]:1/jwks"]
)
def test_safe_ways(url: str) -> None:
    KeySet(url, ALGORITHMS)


def test_keys_from_a_file(issuer: Any, tmp_path: Path) -> None:
    path = tmp_path / "key set.json"
    path.write_text(json.dumps(issuer.document))
    keys = KeySet(path.as_uri(), ALGORITHMS)
    assert keys.may_ask("rsa-1")
    asyncio.run(keys.ask_for("rsa-1"))
    assert keys.key("rsa-1", "RS256") is not None
    assert issuer.asked == 0


def test_a_key_is_filed_only_under_what_it_is_fit_for(issuer: Any) -> None:
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
    asyncio.run(keys.ask_for("rsa-1"))
    assert set(keys._keys) == {
        ("rsa-1", "RS256"),
        ("ec-1", "ES256"),
        ("declared", "RS384"),
        ("rsa-1", "RS384"),
    }
    assert keys.key("rsa-1", "RS256").key.public_numbers() == (
        issuer.private.rsa.public_key().public_numbers()
    )


def test_invented_key_ids_do_not_burden_the_issuer(
    issuer: Any, later: Callable[[float], None]
) -> None:
    keys = KeySet(issuer.url, ALGORITHMS)

    async def invent(count: int) -> None:
        await asyncio.gather(*(keys.ask_for(f"invented-{number}") for number in range(count)))

    with asyncio.Runner() as runner:
        runner.run(invent(50))
        assert issuer.asked == 1
        later(29)
        assert not keys.may_ask("invented")
        runner.run(invent(50))
        assert issuer.asked == 1
        later(2)
        runner.run(invent(50))
        assert issuer.asked == 2
        # A key that is known is never a reason to ask.
        later(60)
        assert not keys.may_ask("rsa-1")
        runner.run(keys.ask_for("rsa-1"))
        assert issuer.asked == 2


def test_all_that_wait_for_one_answer_get_it(issuer: Any) -> None:
    issuer.delay = 0.2
    keys = KeySet(issuer.url, ALGORITHMS)

    async def ask() -> list[bool]:
        first = asyncio.create_task(keys.ask_for("rsa-1"))
        await asyncio.sleep(0.05)
        assert keys.may_ask("ec-1")
        await asyncio.gather(first, *(keys.ask_for("ec-1") for _ in range(20)))
        return [keys.key("rsa-1", "RS256") is not None, keys.key("ec-1", "ES256") is not None]

    assert asyncio.run(ask()) == [True, True]
    assert issuer.asked == 1


def test_asking_never_holds_the_event_loop_up(issuer: Any) -> None:
    issuer.delay = 0.5
    keys = KeySet(issuer.url, ALGORITHMS)

    async def longest_pause() -> float:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(keys.ask_for("rsa-1"))
        longest, last = 0.0, loop.time()
        while not task.done():
            await asyncio.sleep(0.005)
            longest, last = max(longest, loop.time() - last), loop.time()
        return longest

    assert asyncio.run(longest_pause()) < 0.3


def test_a_new_key_of_the_issuer_is_found(issuer: Any, later: Callable[[float], None]) -> None:
    keys = KeySet(issuer.url, ALGORITHMS)
    asyncio.run(keys.ask_for("rsa-1"))
    issuer.document = {"keys": [issuer.jwk(issuer.private.foreign, "rsa-2")]}
    later(31)
    asyncio.run(keys.ask_for("rsa-2"))
    assert keys.key("rsa-2", "RS256") is not None
    assert keys.key("rsa-1", "RS256") is None


def test_a_withdrawn_key_is_noticed_in_time(issuer: Any, later: Callable[[float], None]) -> None:
    keys = KeySet(issuer.url, ALGORITHMS)
    asyncio.run(keys.refresh())
    assert keys.key("rsa-1", "RS256") is not None
    issuer.document["keys"] = issuer.document["keys"][1:]
    later(590)
    asyncio.run(keys.refresh())
    assert issuer.asked == 1
    later(20)
    asyncio.run(keys.refresh())
    assert keys.key("rsa-1", "RS256") is None
    assert keys.key("ec-1", "ES256") is not None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 500}, "answered 500"),
        ({"status": 302}, "answered 302"),
        ({"raw": b"CANARY"}, "is no key set"),
        ({"raw": b"[" * 100_000}, "is no key set"),
        ({"raw": b'{"keys": {}}'}, "is no key set"),
        ({"raw": b'{"keys": []}'}, "holds no key that is fit for an accepted algorithm"),
        ({"raw": b'{"keys": [' + b"{}," * 100 + b"{}]}"}, "is no key set"),
        ({"raw": b" " * 300_000}, "answered too much"),
    ],
)
def test_known_keys_go_on_while_the_issuer_is_not_well(
    issuer: Any,
    later: Callable[[float], None],
    events: list[Any],
    fault: dict[str, Any],
    reason: str,
) -> None:
    keys = KeySet(issuer.url, ALGORITHMS)
    asyncio.run(keys.refresh())
    good = issuer.document
    for name, value in fault.items():
        setattr(issuer, name, value)
    for _ in range(2):
        later(700)
        asyncio.run(keys.refresh())
    assert keys.key("rsa-1", "RS256") is not None
    assert keys.fault == reason
    assert [event["event"] for event in events] == ["jwks.read", "jwks.away"]
    assert "CANARY" not in str(events)
    issuer.status, issuer.raw, issuer.document = 200, None, good
    # After a failure the next try is not far.
    later(6)
    asyncio.run(keys.refresh())
    assert keys.fault == ""


def test_an_issuer_that_is_gone(issuer: Any, later: Callable[[float], None]) -> None:
    keys = KeySet(issuer.url, ALGORITHMS)
    asyncio.run(keys.refresh())
    keys._url = "http://127.0.0.1:1/jwks"
    later(700)
    asyncio.run(keys.refresh())
    assert keys.fault == "ConnectError"
    assert keys.key("rsa-1", "RS256") is not None


@pytest.mark.parametrize("url", ["https://login..example/jwks", "https://x.example:99999/jwks"])
def test_an_address_that_nobody_can_have_is_a_fault_and_no_surprise(url: str) -> None:
    keys = KeySet(url, ALGORITHMS)
    asyncio.run(keys.refresh())
    assert keys.fault
    assert keys.key("rsa-1", "RS256") is None
