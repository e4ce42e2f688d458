from __future__ import annotations

import json
import re
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from bc_pipeline.auth import api_keys, key_store
from bc_pipeline.errors import ConfigError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_key_is_random_and_only_its_digest_is_stored(store_path: Path) -> None:
    raw, entry = api_keys.create_key(store_path, "hospital-a", ["read", "predict"])
    assert re.fullmatch(rf"bck_{entry.id}_[A-Za-z0-9_-]{{43}}", raw)
    assert entry.scopes == ("predict", "read")
    text = store_path.read_text()
    assert raw not in text
    assert raw.removeprefix(f"bck_{entry.id}_") not in text
    assert stat.S_IMODE(store_path.stat().st_mode) == 0o640
    assert stat.S_IMODE(store_path.parent.stat().st_mode) == 0o700
    assert key_store.list_keys(store_path) == (entry,)
    other, _ = api_keys.create_key(store_path, "hospital-b", ["predict"])
    assert other != raw


@pytest.mark.parametrize(
    ("name", "scopes"),
    [
        ("", ["predict"]),
        ("-x", ["predict"]),
        ("a b", ["predict"]),
        ("a\n", ["predict"]),
        ("x" * 65, ["predict"]),
        ("a", []),
        ("a", ["predict", "root"]),
    ],
)
def test_names_and_scopes_are_checked(store_path: Path, name: str, scopes: list[str]) -> None:
    with pytest.raises(ConfigError):
        api_keys.create_key(store_path, name, scopes)
    assert key_store.list_keys(store_path) == ()


def test_an_expiry_in_the_past_is_an_error(store_path: Path) -> None:
    with pytest.raises(ConfigError, match="expired"):
        api_keys.create_key(store_path, "a", ["predict"], datetime(2020, 1, 1, tzinfo=UTC))


def test_a_name_is_in_use_until_its_key_is_revoked(store_path: Path) -> None:
    _, first = api_keys.create_key(store_path, "a", ["predict"])
    for name in ("a", first.id):
        with pytest.raises(ConfigError, match="live key"):
            api_keys.create_key(store_path, name, ["predict"])
    (revoked,) = api_keys.revoke_key(store_path, first.id)
    assert revoked.state(datetime.now(UTC)) == "revoked"
    api_keys.create_key(store_path, "a", ["predict"])
    with pytest.raises(ConfigError, match="no live key"):
        api_keys.revoke_key(store_path, first.id)


def test_rotation_keeps_name_scopes_and_lifetime_and_overlaps(store_path: Path) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        _, old = api_keys.create_key(store_path, "a", ["predict"], NOW + timedelta(days=90))
        clock.shift(timedelta(days=80))
        _, new = api_keys.rotate_key(store_path, "a", timedelta(hours=24))
        assert (new.name, new.scopes) == (old.name, old.scopes)
        assert new.expires_at == "2027-05-10T12:00:00Z"
        stored = {entry.id: entry for entry in key_store.list_keys(store_path)}
        assert stored[old.id].expires_at == "2027-02-10T12:00:00Z"
        assert stored[old.id].rotated_to == new.id
        assert [entry.state(NOW + timedelta(days=80)) for entry in stored.values()] == ["live"] * 2
        with pytest.raises(ConfigError, match="rotated"):
            api_keys.rotate_key(store_path, old.id, timedelta(0))
        # The name now stands for the new key.
        _, newest = api_keys.rotate_key(store_path, "a", timedelta(0))
        assert newest.id not in (old.id, new.id)
        # An overlap never makes a key live longer than it was meant to.
        assert key_store.list_keys(store_path)[0].expires_at == "2027-02-10T12:00:00Z"
        # A name revokes all that bear it.
        revoked = api_keys.revoke_key(store_path, "a")
        assert {entry.id for entry in revoked} == {old.id, newest.id}


def test_an_overlap_does_not_extend_the_old_key(store_path: Path) -> None:
    with time_machine.travel(NOW, tick=False):
        _, old = api_keys.create_key(store_path, "a", ["predict"], NOW + timedelta(hours=1))
        api_keys.rotate_key(store_path, "a", timedelta(hours=24))
        assert key_store.list_keys(store_path)[0].expires_at == old.expires_at


def test_an_overlap_may_reach_the_end_of_the_calendar(store_path: Path) -> None:
    end = datetime.max.replace(tzinfo=UTC, microsecond=0)
    api_keys.create_key(store_path, "a", ["predict"], end)
    api_keys.create_key(store_path, "b", ["predict"])
    with time_machine.travel(datetime.now(UTC) + timedelta(days=1), tick=False):
        _, new = api_keys.rotate_key(store_path, "a", timedelta(days=1))
        assert new.expires_at == "9999-12-31T23:59:59Z"
        api_keys.rotate_key(store_path, "b", timedelta.max)
    (old,) = (
        entry for entry in key_store.list_keys(store_path) if entry.name == "b" and entry.rotated_to
    )
    assert old.expires_at == "9999-12-31T23:59:59Z"


def test_an_imported_key_is_added_once(store_path: Path) -> None:
    raw = "any-string-that-was-a-key"
    first = api_keys.import_key(store_path, "local", ["admin"], raw)
    before = store_path.read_bytes()
    assert api_keys.import_key(store_path, "local", ["admin"], raw) == first
    assert store_path.read_bytes() == before
    with pytest.raises(ConfigError, match="live key"):
        api_keys.import_key(store_path, "local", ["admin"], "another-key-altogether")
    api_keys.import_key(store_path, "local", ["admin"], "another-key-altogether", replacing=True)
    assert [entry.state(datetime.now(UTC)) for entry in key_store.list_keys(store_path)] == [
        "revoked",
        "live",
    ]


@pytest.mark.parametrize("raw", ["", "short", "two words of a passphrase", "schlüssel-schlüssel"])
def test_an_invalid_key_is_not_imported(store_path: Path, raw: str) -> None:
    with pytest.raises(ConfigError) as caught:
        api_keys.import_key(store_path, "local", ["admin"], raw)
    assert not raw or raw not in str(caught.value)


def test_keys_that_are_created_at_the_same_time_are_all_stored(store_path: Path) -> None:
    threads = [
        threading.Thread(target=api_keys.create_key, args=(store_path, f"k{number}", ["predict"]))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name for entry in key_store.list_keys(store_path)} == {f"k{n}" for n in range(8)}


def _changed(**changes: object) -> bytes:
    entry = {
        "id": "00000000",
        "name": "a",
        "scopes": ["predict"],
        "sha256": "0" * 64,
        "created_at": "2026-11-21T12:00:00Z",
        "expires_at": None,
        "revoked_at": None,
        "rotated_to": None,
    }
    return json.dumps({"format": 1, "keys": [entry | changes]}).encode()


def test_the_format_of_the_store(store_path: Path) -> None:
    store_path.parent.mkdir()
    store_path.write_bytes(_changed())
    assert key_store.read_store(store_path).keys[0].name == "a"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"format": 2, "keys": []}',
        _changed(scopes=["root"]),
        _changed(sha256="0" * 63),
        _changed(sha256="CANARY" * 10),
        _changed(expires_at="tomorrow"),
        _changed(extra=1),
        _changed().replace(b"[{", b"[" + _changed()[23:-2] + b", {"),
        _changed()[:-9],
        b'{"format": 1, "keys": ' + b"[" * 100_000,
    ],
)
def test_a_damaged_store_is_a_configuration_error(store_path: Path, data: bytes) -> None:
    store_path.parent.mkdir()
    store_path.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged") as caught:
        key_store.read_store(store_path)
    assert caught.value.setting == "BC_SERVICE_KEYS_FILE"
    assert "CANARY" not in str(caught.value)
    with pytest.raises(ConfigError, match="damaged"):
        api_keys.create_key(store_path, "b", ["predict"])
    assert store_path.read_bytes() == data
