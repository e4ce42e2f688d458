from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import timeit
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.auth import api_keys
from bc_pipeline.auth.authenticator import Authenticator
from bc_pipeline.auth.callers import SCOPES, Caller, Scope, effective
from bc_pipeline.auth.key_cache import KeyCache
from bc_pipeline.errors import ConfigError, KeyRefused, ScopeMissing
from bc_pipeline.settings import Settings

Headers = list[tuple[bytes, bytes]]


@pytest.fixture
def key(settings: Settings) -> bytes:
    raw, _ = api_keys.create_key(settings.service_keys, "hospital-a", ["predict"])
    return raw.encode()


@pytest.fixture
def authenticator(settings: Settings, key: bytes) -> Authenticator:
    return Authenticator.from_settings(settings)


def authorize(authenticator: Authenticator, headers: Headers, query: bytes, scope: Scope) -> Caller:
    return asyncio.run(authenticator.authorize(headers, query, scope))


def test_a_missing_key_store_is_an_error(settings: Settings) -> None:
    with pytest.raises(ConfigError):
        Authenticator.from_settings(settings)


def test_tokens_alone_need_no_key_store(settings: Settings, issuer: Any) -> None:
    assert Authenticator.from_settings(issuer.settings(settings)).tokens is not None


@pytest.mark.parametrize(
    "header",
    [
        (b"x-api-key", b"%b"),
        (b"x-api-key", b" %b "),
        (b"authorization", b"Bearer %b"),
        (b"authorization", b"bearer %b"),
        (b"authorization", b" BEARER  %b "),
    ],
)
def test_a_key_is_accepted_in_either_header(
    authenticator: Authenticator, key: bytes, header: tuple[bytes, bytes]
) -> None:
    sent = [(b"host", b"x"), (header[0], header[1] % key), (b"accept", b"*/*")]
    caller = authorize(authenticator, sent, b"explain=true", "predict")
    assert caller is not None
    assert (caller.name, caller.scopes) == ("hospital-a", {"predict"})


def refusals(key: bytes) -> dict[str, tuple[Headers, bytes]]:
    one = [(b"x-api-key", key)]
    bearer = [(b"authorization", b"Bearer " + key)]
    return {
        "none": ([], b""),
        "empty": ([(b"x-api-key", b"")], b""),
        "blank": ([(b"x-api-key", b"  ")], b""),
        "empty bearer": ([(b"authorization", b"Bearer ")], b""),
        "no scheme": ([(b"authorization", key)], b""),
        "basic": ([(b"authorization", b"Basic " + key)], b""),
        "tab": ([(b"authorization", b"Bearer\t" + key)], b""),
        "wrong": ([(b"x-api-key", key[:-1] + b"!")], b""),
        "prefix": ([(b"x-api-key", key[:-1])], b""),
        "longer": ([(b"x-api-key", key + b"x")], b""),
        "upper case": ([(b"x-api-key", key.upper())], b""),
        "id alone": ([(b"x-api-key", key[:12])], b""),
        "two words": ([(b"authorization", b"Bearer " + key + b" " + key)], b""),
        "joined": ([(b"x-api-key", key + b", " + key)], b""),
        "not ASCII": ([(b"x-api-key", b"\xff" * 40)], b""),
        "both headers": (one + bearer, b""),
        "both headers, one wrong": ([*one, (b"authorization", b"Basic eA==")], b""),
        "twice the same": (one + one, b""),
        "twice bearer": (bearer + bearer, b""),
        "twice, second wrong": ([*one, (b"x-api-key", b"x")], b""),
        "in the query": ([], b"api_key=" + key),
        "in the query too": (one, b"x=1&access_token=" + key),
        "key": (one, b"key=" + key),
        "empty in the query": (one, b"api_key"),
        "in the query, encoded": (one, b"%61pi%5Fkey=" + key),
        "in the query, upper case": (one, b"API_KEY=" + key),
        "in the query, not ASCII": (one, b"\xff=1&key=" + key),
        "token that nobody reads": ([(b"authorization", b"Bearer ey.a.b")], b""),
    }


CASES = list(refusals(b"bck_00000000_" + b"x" * 43))


@pytest.mark.parametrize("case", CASES)
def test_other_credentials_are_refused_without_a_reason(
    authenticator: Authenticator,
    key: bytes,
    events: list[Any],
    case: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    headers, query = refusals(key)[case]
    with pytest.raises(KeyRefused) as caught:
        authorize(authenticator, headers, query, "predict")
    reported = json.dumps([caught.value.to_dict(), str(caught.value), repr(caught.value), events])
    reported += "".join(capsys.readouterr())
    assert key.decode() not in reported
    assert key.decode()[13:33] not in reported


def test_a_key_in_the_query_is_refused_with_a_remedy(
    authenticator: Authenticator, key: bytes
) -> None:
    with pytest.raises(KeyRefused, match="must not be sent in the address"):
        authorize(authenticator, [], b"api_key=" + key, "predict")


def test_expired_revoked_and_unknown_keys_get_the_same_answer(
    authenticator: Authenticator, settings: Settings, key: bytes, events: list[Any]
) -> None:
    (revoked,) = api_keys.revoke_key(settings.service_keys, "hospital-a")
    headers = [(b"x-api-key", key)]
    assert authorize(authenticator, headers, b"", "predict") is not None
    authenticator.refresh()
    with pytest.raises(KeyRefused) as known:
        authorize(authenticator, headers, b"", "predict")
    with pytest.raises(KeyRefused) as unknown:
        authorize(authenticator, [(b"x-api-key", b"never-seen-before")], b"", "predict")
    assert str(known.value) == str(unknown.value)
    # Who runs the service learns more.
    refused = [event for event in events if event["event"] == "access.refused"]
    assert [(event["reason"], event["key_id"]) for event in refused] == [
        ("revoked", revoked.id),
        ("unknown", ""),
    ]


def test_a_scope_allows_nothing_else(settings: Settings, events: list[Any]) -> None:
    made = {
        scope: api_keys.create_key(settings.service_keys, f"only-{scope}", [scope])
        for scope in SCOPES
    }
    authenticator = Authenticator.from_settings(settings)
    for cached, (raw, entry) in made.items():
        for wanted in SCOPES:
            headers = [(b"x-api-key", raw.encode())]
            if wanted == cached or cached == "admin":
                caller = authorize(authenticator, headers, b"", wanted)
                assert caller is not None
                assert caller.key_id == entry.id
            else:
                with pytest.raises(ScopeMissing) as caught:
                    authorize(authenticator, headers, b"", wanted)
                assert caught.value.scope == wanted
                assert events[-1]["key_id"] == entry.id


@given(st.lists(st.text()))
def test_unknown_scopes_grant_nothing(words: list[str]) -> None:
    known = set(words) & set(SCOPES)
    assert effective(words) == (set(SCOPES) if "admin" in known else known)


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"x-api-key", b"authorization", b"cookie"]), st.binary(max_size=60)
        ),
        max_size=4,
    ),
    query=st.binary(max_size=60),
)
def test_no_invented_credentials_are_accepted(
    headers: Headers, query: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "authenticator" / "api_keys.json"
    if not path.exists():
        api_keys.create_key(path, "a", ["admin"])
    with pytest.raises(KeyRefused):
        authorize(Authenticator(KeyCache(path)), headers, query, "read")


class TestTokens:
    @pytest.fixture
    def authenticator(self, settings: Settings, issuer: Any, key: bytes) -> Authenticator:
        return Authenticator.from_settings(issuer.settings(settings))

    def test_missing_keys_are_fetched_from_the_issuer(
        self, authenticator: Authenticator, issuer: Any
    ) -> None:
        headers = [(b"authorization", b"Bearer " + issuer.token())]
        caller = authorize(authenticator, headers, b"", "predict")
        assert caller.key_id == "token:client-7"
        # From now on nothing waits.
        assert authorize(authenticator, headers, b"", "predict") == caller
        assert issuer.fetches == 1

    def test_a_refresh_fetches_keys_before_the_first_token(
        self, authenticator: Authenticator, issuer: Any
    ) -> None:
        asyncio.run(authenticator.refresh_tokens())
        headers = [(b"authorization", b"Bearer " + issuer.token())]
        assert authorize(authenticator, headers, b"", "predict") is not None

    def test_api_keys_work_beside_tokens(
        self, authenticator: Authenticator, issuer: Any, key: bytes
    ) -> None:
        for header in ((b"x-api-key", key), (b"authorization", b"Bearer " + key)):
            assert authorize(authenticator, [header], b"", "predict") is not None
        assert issuer.fetches == 0

    def test_a_token_is_not_accepted_as_an_api_key(
        self, authenticator: Authenticator, issuer: Any
    ) -> None:
        with pytest.raises(KeyRefused):
            authorize(authenticator, [(b"x-api-key", issuer.token())], b"", "predict")

    def test_a_token_without_the_scope(self, authenticator: Authenticator, issuer: Any) -> None:
        headers = [(b"authorization", b"Bearer " + issuer.token(scope="read"))]
        with pytest.raises(ScopeMissing):
            authorize(authenticator, headers, b"", "predict")

    def test_tokens_of_known_keys_are_accepted_while_the_issuer_is_unavailable(
        self, authenticator: Authenticator, issuer: Any
    ) -> None:
        asyncio.run(authenticator.refresh_tokens())
        issuer.status = 503
        known = [(b"authorization", b"Bearer " + issuer.token())]
        unknown = [(b"authorization", b"Bearer " + issuer.token(kid="rsa-9"))]
        assert authorize(authenticator, known, b"", "predict") is not None
        with pytest.raises(KeyRefused):
            authorize(authenticator, unknown, b"", "predict")

    def test_an_issuer_that_never_answered(self, authenticator: Authenticator, issuer: Any) -> None:
        issuer.status = 503
        headers = [(b"authorization", b"Bearer " + issuer.token())]
        with pytest.raises(KeyRefused) as caught:
            authorize(authenticator, headers, b"", "predict")
        assert issuer.token().decode() not in str(caught.value)


def test_authorizing_a_key_takes_microseconds(authenticator: Authenticator, key: bytes) -> None:
    """Generous, for busy machines: a refetch, a file or a slow hash would show all the same."""
    headers = [*((b"x-%d" % number, b"y") for number in range(6)), (b"x-api-key", key)]
    best = min(timeit.repeat(lambda: authenticator.caller_of_key(headers), number=2000, repeat=5))
    assert best / 2000 < 20e-6


def test_auth_imports_no_framework() -> None:
    program = (
        "import sys, bc_pipeline.auth.authenticator, bc_pipeline.auth.rate_limits\n"
        "import bc_pipeline.auth.addresses\n"
        "found = {'fastapi', 'starlette', 'jwt', 'httpx', 'limits', 'redis'} & set(sys.modules)\n"
        "print(*found)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
