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

from bc_pipeline.access import keys
from bc_pipeline.access.guard import Guard
from bc_pipeline.access.ring import KeyRing
from bc_pipeline.access.scopes import SCOPES, effective
from bc_pipeline.errors import ConfigError, KeyRefused, ScopeMissing
from bc_pipeline.settings import Settings

Headers = list[tuple[bytes, bytes]]


@pytest.fixture
def key(settings: Settings) -> bytes:
    raw, _ = keys.create_key(settings.service_keys, "hospital-a", ["predict"])
    return raw.encode()


@pytest.fixture
def guard(settings: Settings, key: bytes) -> Guard:
    return Guard.of(settings)


def test_without_a_key_store_there_is_no_start(settings: Settings) -> None:
    with pytest.raises(ConfigError):
        Guard.of(settings)


def test_tokens_alone_need_no_key_store(settings: Settings, issuer: Any) -> None:
    assert Guard.of(issuer.settings(settings)).tokens is not None


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
def test_a_key_is_taken_from_either_header(
    guard: Guard, key: bytes, header: tuple[bytes, bytes]
) -> None:
    sent = [(b"host", b"x"), (header[0], header[1] % key), (b"accept", b"*/*")]
    caller = guard.admit(sent, b"explain=true", "predict")
    assert caller is not None
    assert (caller.name, caller.scopes) == ("hospital-a", {"predict"})
    assert asyncio.run(guard.admit_token(sent, b"", "predict")) == caller


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
def test_anything_else_is_refused_and_tells_nothing(
    guard: Guard, key: bytes, events: list[Any], case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    headers, query = refusals(key)[case]
    with pytest.raises(KeyRefused) as caught:
        guard.admit(headers, query, "predict")
    with pytest.raises(KeyRefused):
        asyncio.run(guard.admit_token(headers, query, "predict"))
    told = json.dumps([caught.value.to_dict(), str(caught.value), repr(caught.value), events])
    told += "".join(capsys.readouterr())
    assert key.decode() not in told
    assert key.decode()[13:33] not in told


def test_a_query_that_holds_a_key_is_told_apart(guard: Guard, key: bytes) -> None:
    with pytest.raises(KeyRefused, match="must not be sent in the address"):
        guard.admit([], b"api_key=" + key, "predict")


def test_expired_and_revoked_keys_look_like_unknown_ones(
    guard: Guard, settings: Settings, key: bytes, events: list[Any]
) -> None:
    (revoked,) = keys.revoke_key(settings.service_keys, "hospital-a")
    headers = [(b"x-api-key", key)]
    assert guard.admit(headers, b"", "predict") is not None
    guard.refresh()
    with pytest.raises(KeyRefused) as known:
        guard.admit(headers, b"", "predict")
    with pytest.raises(KeyRefused) as unknown:
        guard.admit([(b"x-api-key", b"never-seen-before")], b"", "predict")
    assert str(known.value) == str(unknown.value)
    # Who runs the service learns more.
    refused = [event for event in events if event["event"] == "access.refused"]
    assert [(event["reason"], event["key_id"]) for event in refused] == [
        ("revoked", revoked.id),
        ("unknown", ""),
    ]


def test_every_scope_opens_its_own_door_only(settings: Settings, events: list[Any]) -> None:
    made = {
        scope: keys.create_key(settings.service_keys, f"only-{scope}", [scope]) for scope in SCOPES
    }
    guard = Guard.of(settings)
    for held, (raw, entry) in made.items():
        for wanted in SCOPES:
            headers = [(b"x-api-key", raw.encode())]
            if wanted == held or held == "admin":
                caller = guard.admit(headers, b"", wanted)
                assert caller is not None
                assert caller.key_id == entry.id
            else:
                with pytest.raises(ScopeMissing) as caught:
                    guard.admit(headers, b"", wanted)
                assert caught.value.scope == wanted
                assert events[-1]["key_id"] == entry.id


@given(st.lists(st.text()))
def test_unknown_words_grant_nothing(words: list[str]) -> None:
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
    path = Path(tmp_path_factory.getbasetemp()) / "guard" / "keys.json"
    if not path.exists():
        keys.create_key(path, "a", ["admin"])
    with pytest.raises(KeyRefused):
        Guard(KeyRing(path)).admit(headers, query, "read")


class TestTokens:
    @pytest.fixture
    def guard(self, settings: Settings, issuer: Any, key: bytes) -> Guard:
        return Guard.of(issuer.settings(settings))

    def test_the_issuer_is_asked_when_a_key_is_missing(self, guard: Guard, issuer: Any) -> None:
        headers = [(b"authorization", b"Bearer " + issuer.token())]
        assert guard.admit(headers, b"", "predict") is None
        caller = asyncio.run(guard.admit_token(headers, b"", "predict"))
        assert caller.key_id == "token:client-7"
        # From now on nothing waits.
        assert guard.admit(headers, b"", "predict") == caller
        assert issuer.asked == 1

    def test_keys_are_there_before_the_first_token(self, guard: Guard, issuer: Any) -> None:
        asyncio.run(guard.refresh_tokens())
        headers = [(b"authorization", b"Bearer " + issuer.token())]
        assert guard.admit(headers, b"", "predict") is not None

    def test_keys_work_beside_tokens(self, guard: Guard, issuer: Any, key: bytes) -> None:
        for header in ((b"x-api-key", key), (b"authorization", b"Bearer " + key)):
            assert guard.admit([header], b"", "predict") is not None
        assert issuer.asked == 0

    def test_a_token_is_no_api_key(self, guard: Guard, issuer: Any) -> None:
        with pytest.raises(KeyRefused):
            guard.admit([(b"x-api-key", issuer.token())], b"", "predict")

    def test_a_token_without_the_scope(self, guard: Guard, issuer: Any) -> None:
        headers = [(b"authorization", b"Bearer " + issuer.token(scope="read"))]
        with pytest.raises(ScopeMissing):
            asyncio.run(guard.admit_token(headers, b"", "predict"))

    def test_an_issuer_that_is_away_refuses_unknown_keys_only(
        self, guard: Guard, issuer: Any
    ) -> None:
        asyncio.run(guard.refresh_tokens())
        issuer.status = 503
        known = [(b"authorization", b"Bearer " + issuer.token())]
        unknown = [(b"authorization", b"Bearer " + issuer.token(kid="rsa-9"))]
        assert guard.admit(known, b"", "predict") is not None
        with pytest.raises(KeyRefused):
            asyncio.run(guard.admit_token(unknown, b"", "predict"))

    def test_an_issuer_that_was_never_there(self, guard: Guard, issuer: Any) -> None:
        issuer.status = 503
        headers = [(b"authorization", b"Bearer " + issuer.token())]
        with pytest.raises(KeyRefused) as caught:
            asyncio.run(guard.admit_token(headers, b"", "predict"))
        assert issuer.token().decode() not in str(caught.value)


def test_a_key_costs_next_to_nothing(guard: Guard, key: bytes) -> None:
    """Generous, for busy machines: a refetch, a file or a slow hash would show all the same."""
    headers = [*((b"x-%d" % number, b"y") for number in range(6)), (b"x-api-key", key)]
    best = min(timeit.repeat(lambda: guard.admit(headers, b"", "predict"), number=2000, repeat=5))
    assert best / 2000 < 20e-6


def test_the_room_knows_no_framework() -> None:
    program = (
        "import sys, bc_pipeline.access.guard, bc_pipeline.access.limits\n"
        "import bc_pipeline.access.addresses\n"
        "found = {'fastapi', 'starlette', 'jwt', 'httpx', 'limits', 'redis'} & set(sys.modules)\n"
        "print(*found)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
