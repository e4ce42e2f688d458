from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bc_pipeline.auth import jwks, tokens
from bc_pipeline.auth.callers import Caller
from bc_pipeline.auth.tokens import TokenReader, looks_like_token
from bc_pipeline.errors import KeyRefused
from bc_pipeline.settings import Settings
from tests.waiting import PATIENCE


@pytest.fixture
def reader(issuer: Any, settings: Settings) -> TokenReader:
    made = TokenReader.from_settings(issuer.settings(settings))
    assert made is not None
    asyncio.run(made.keys.refresh())
    return made


def test_the_first_token_does_not_wait_for_an_import() -> None:
    program = """
import sys
from bc_pipeline.auth.jwks import KeySet
from bc_pipeline.auth.tokens import TokenReader

before = "jwt" in sys.modules
TokenReader(KeySet("file:///keys.json", ("ES256",)), "issuer", "audience", ("ES256",), 0)
print(before, "jwt" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE)
    assert done.stdout.split() == [b"False", b"True"]


def part(value: Any) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def forged(header: Any, claims: Any, secret: bytes | None = None) -> bytes:
    """A token put together by hand: unsigned, or with an HMAC."""
    signed = part(header) + b"." + part(claims)
    signature = b"" if secret is None else hmac.digest(secret, signed, hashlib.sha256)
    return signed + b"." + part(signature)


def test_without_an_issuer_there_is_no_reader(settings: Settings) -> None:
    assert TokenReader.from_settings(settings) is None


@pytest.mark.parametrize(
    ("kind", "kid", "algorithm"),
    [("rsa", "rsa-1", "RS256"), ("ec", "ec-1", "ES256"), ("ed", "ed-1", "EdDSA")],
)
def test_a_valid_token_identifies_its_caller(
    reader: TokenReader, issuer: Any, kind: str, kid: str, algorithm: str
) -> None:
    raw = issuer.token(getattr(issuer.private, kind), kid, algorithm)
    assert looks_like_token(raw)
    assert reader.read(raw) == Caller(
        "token:client-7", "token:client-7", frozenset({"predict", "read"})
    )


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scope": None}, set()),
        ({"scope": ""}, set()),
        ({"scope": None, "scp": ["predict", 7, None]}, {"predict"}),
        ({"scope": None, "scp": "predict outcomes"}, {"predict", "outcomes"}),
        ({"scope": {"predict": True}}, set()),
        ({"scope": "predictor PREDICT pre,dict"}, set()),
    ],
)
def test_scopes_of_a_token(
    reader: TokenReader, issuer: Any, changes: dict[str, Any], scopes: set[str]
) -> None:
    caller = reader.read(issuer.token(**changes))
    assert caller is not None
    assert caller.scopes == scopes


def test_admin_implies_every_scope(reader: TokenReader, issuer: Any) -> None:
    caller = reader.read(issuer.token(scope="admin"))
    assert caller is not None
    assert len(caller.scopes) == 6


def attacks(issuer: Any) -> dict[str, bytes]:
    now = int(time.time())
    good = issuer.claims()
    head, body, signature = issuer.token().split(b".")
    pem = issuer.private.public_pem
    return {
        "alg none": forged({"alg": "none", "kid": "rsa-1"}, good),
        "alg None": forged({"alg": "None", "kid": "rsa-1"}, good),
        "alg missing": forged({"kid": "rsa-1"}, good),
        "alg null": forged({"alg": None, "kid": "rsa-1"}, good),
        "alg list": forged({"alg": ["RS256"], "kid": "rsa-1"}, good),
        "HS256 with the public key": forged({"alg": "HS256", "kid": "rsa-1"}, good, pem),
        "HS256 said to be RS256": forged({"alg": "RS256", "kid": "rsa-1"}, good, pem),
        "another family": issuer.token(issuer.private.rsa, "rsa-1", "PS256"),
        "algorithm of another key": forged({"alg": "ES256", "kid": "rsa-1"}, good),
        "signature of another key": issuer.token(issuer.private.foreign),
        "signature cut": b".".join([head, body, signature[:-8]]),
        "signature gone": b".".join([head, body, b""]),
        "claims changed": b".".join([head, part(good | {"scope": "admin"}), signature]),
        "own key in the header": forged(
            {"alg": "RS256", "jwk": issuer.jwk(issuer.private.foreign, "x")}, good
        ),
        "own key set": forged({"alg": "RS256", "kid": "x", "jku": "http://127.0.0.1:1/jwks"}, good),
        "audience": issuer.token(aud="another-service"),
        "audience missing": issuer.token(aud=None),
        "audience part": issuer.token(aud="bc-service-2"),
        "issuer": issuer.token(iss="https://issuer.example.evil"),
        "issuer missing": issuer.token(iss=None),
        "issuer list": forged({"alg": "RS256", "kid": "rsa-1"}, good | {"iss": [good["iss"]]}),
        "expired": issuer.token(exp=now - 31),
        "never expires": issuer.token(exp=None),
        "expires as text": issuer.token(exp="tomorrow"),
        "expires at infinity": issuer.token(exp=float("inf")),
        "expires at nan": issuer.token(exp=float("nan")),
        "not yet valid": issuer.token(nbf=now + 60),
        "issued in the future": issuer.token(iat=now + 60),
        "subject missing": issuer.token(sub=None),
        "subject empty": issuer.token(sub=""),
        "subject with a line break": issuer.token(sub="a\nb"),
        "subject with half a character": issuer.token(sub="\ud800"),
        "subject long": issuer.token(sub="x" * 201),
        "key id missing": issuer.token(kid=None),
        "key id unknown": issuer.token(kid="rsa-2"),
        "key id path": issuer.token(kid="../../../../dev/null"),
        "key id query": issuer.token(kid="' UNION SELECT 'key"),
        "key id long": issuer.token(kid="x" * 201),
        "key id empty": issuer.token(kid=""),
        "key id number": forged({"alg": "RS256", "kid": 1}, good),
        "key id list": forged({"alg": "RS256", "kid": ["rsa-1"]}, good),
        "key id half a character": forged({"alg": "RS256", "kid": "\ud800"}, good),
        "critical extension": forged({"alg": "RS256", "kid": "rsa-1", "crit": ["x"]}, good),
        "detached": forged({"alg": "RS256", "kid": "rsa-1", "b64": False, "crit": ["b64"]}, good),
        "header is a list": forged([], good),
        "header is deep": forged(b"[" * 5000, good),
        "header is no JSON": forged(b"\xff{", good),
        "encrypted": b"eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d",
        "huge": issuer.token(scope="predict " * 2000),
        "three dots": b"ey..",
        "not ASCII": b"ey\xff.a.b",
    }


REASONS = {
    *("expired", "not-yet-valid", "audience", "issuer", "signature", "claim-missing"),
    *("algorithm", "no-key-id", "unknown-key", "critical-extension", "subject", "too-long"),
    "malformed",
}

NAMES = [
    "alg none", "alg None", "alg missing", "alg null", "alg list", "HS256 with the public key",
    "HS256 said to be RS256", "another family", "algorithm of another key",
    "signature of another key", "signature cut", "signature gone", "claims changed",
    "own key in the header", "own key set", "audience", "audience missing", "audience part",
    "issuer", "issuer missing", "issuer list", "expired", "never expires", "expires as text",
    "expires at infinity", "expires at nan", "not yet valid", "issued in the future",
    "subject missing", "subject empty", "subject with a line break",
    "subject with half a character", "subject long", "key id missing", "key id unknown",
    "key id path", "key id query", "key id long", "key id empty", "key id number", "key id list",
    "key id half a character", "critical extension", "detached", "header is a list",
    "header is deep", "header is no JSON", "encrypted", "huge", "three dots", "not ASCII",
]  # fmt: skip


def test_all_attacks_are_listed(issuer: Any) -> None:
    assert list(attacks(issuer)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_is_refused_without_saying_why(
    reader: TokenReader, issuer: Any, events: list[Any], name: str
) -> None:
    raw = attacks(issuer)[name]
    before = issuer.fetches
    with pytest.raises(KeyRefused) as caught:
        reader.read(raw)
    assert caught.value.message == "The credentials are not accepted."
    assert issuer.fetches == before
    (event,) = events
    assert (event["event"], event["reason"]) == ("access.refused", caught.value.reason)
    # It becomes a label of a metric: one of a few words.
    assert caught.value.reason in REASONS
    shown = json.dumps(events)
    for secret in (raw.decode("latin-1"), *raw.decode("latin-1").split(".")):
        assert len(secret) < 8 or secret not in shown
    assert "client-7" not in shown


def test_the_leeway_applies_to_expiry(reader: TokenReader, issuer: Any) -> None:
    now = int(time.time())
    assert reader.read(issuer.token(exp=now - 25)) is not None
    assert reader.read(issuer.token(nbf=now + 25)) is not None


def test_an_expired_token_is_refused_while_it_is_cached(reader: TokenReader, issuer: Any) -> None:
    raw = issuer.token()
    assert reader.read(raw) is not None
    with time_machine.travel(time.time() + 331), pytest.raises(KeyRefused):
        reader.read(raw)


def test_a_token_of_a_withdrawn_key_is_refused(
    reader: TokenReader, issuer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = issuer.token()
    assert reader.read(raw) is not None
    issuer.document["keys"] = issuer.document["keys"][1:]
    monkeypatch.setattr(jwks, "LIFESPAN_SECONDS", 0.0)
    monkeypatch.setattr(jwks, "monotonic", lambda: time.monotonic() + 60)
    asyncio.run(reader.keys.refresh())
    with pytest.raises(KeyRefused):
        reader.read(raw)


def test_an_accepted_token_is_cached(
    reader: TokenReader, issuer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_CACHE_SIZE", 3)
    made = [issuer.token(jti=str(number)) for number in range(5)]
    callers = {reader.read(raw) for raw in made}
    assert len(callers) == 1
    assert all(reader.read(raw) == reader.read(made[0]) for raw in made)
    assert len(reader._accepted) == 3
    # Nothing of a token is kept, and one that differs in a bit is another one.
    assert all(raw not in str(reader._accepted).encode() for raw in made)
    head, body, signature = made[-1].split(b".")
    with pytest.raises(KeyRefused):
        reader.read(b".".join([head, body, signature[:-4] + b"AAAA"]))


def test_an_algorithm_that_is_not_configured_is_refused(issuer: Any, settings: Settings) -> None:
    made = TokenReader.from_settings(issuer.settings(settings, jwt_algorithms=("ES256",)))
    assert made is not None
    asyncio.run(made.keys.refresh())
    with pytest.raises(KeyRefused):
        made.read(issuer.token())
    assert made.read(issuer.token(issuer.private.ec, "ec-1", "ES256")) is not None


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.recursive(
        st.none() | st.booleans() | st.text() | st.floats(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["alg", "kid", "b64", "typ"]), inner)
        ),
    ),
    claims=st.binary(max_size=50),
)
def test_invented_tokens_are_refused(reader: TokenReader, header: Any, claims: bytes) -> None:
    with pytest.raises(KeyRefused):
        reader.read(forged(header, claims))
