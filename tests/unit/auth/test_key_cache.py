from __future__ import annotations

import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.auth import api_keys, key_cache
from bc_pipeline.auth.key_cache import KeyCache
from bc_pipeline.errors import ConfigError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_key_is_found_until_it_expires(store_path: Path) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        raw, entry = api_keys.create_key(store_path, "a", ["predict"], NOW + timedelta(minutes=1))
        cache = KeyCache(store_path)
        caller = cache.caller(raw.encode())
        assert caller is not None
        assert caller.key_id == entry.id
        clock.shift(59.999)
        caller = cache.caller(raw.encode())
        assert caller is not None
        assert caller.key_id == entry.id
        # No refresh is needed for that.
        clock.shift(0.001)
        assert cache.caller(raw.encode()) is None
        assert cache.rejection(raw.encode()) == ("expired", entry.id)


def test_a_refresh_loads_changes(store_path: Path) -> None:
    raw, entry = api_keys.create_key(store_path, "a", ["admin"])
    cache = KeyCache(store_path)
    assert cache.refresh() is False
    other, _ = api_keys.create_key(store_path, "b", ["read"])
    assert cache.caller(other.encode()) is None
    assert cache.refresh() is True
    assert cache.caller(other.encode()) is not None
    api_keys.revoke_key(store_path, "a")
    assert cache.refresh() is True
    assert cache.caller(raw.encode()) is None
    assert cache.rejection(raw.encode()) == ("revoked", entry.id)


def test_both_keys_work_while_a_rotation_overlaps(store_path: Path) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        old, _ = api_keys.create_key(store_path, "a", ["predict"])
        new, _ = api_keys.rotate_key(store_path, "a", timedelta(hours=1))
        cache = KeyCache(store_path)
        assert all(cache.caller(raw.encode()) for raw in (old, new))
        clock.shift(timedelta(hours=1))
        assert cache.caller(old.encode()) is None
        assert cache.caller(new.encode()) is not None


def test_any_string_can_be_a_key(store_path: Path) -> None:
    api_keys.import_key(store_path, "local", ["admin"], "of-the-earlier-release")
    assert KeyCache(store_path).caller(b"of-the-earlier-release") is not None


@given(raw=st.binary(max_size=200))
def test_nothing_else_is_a_key(raw: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "cache" / "keys.json"
    if not path.exists():
        api_keys.create_key(path, "a", ["predict"])
    assert KeyCache(path).caller(raw) is None


def test_a_missing_store_is_an_error(store_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        KeyCache(store_path)
    cache = KeyCache(store_path, optional=True)
    raw, _ = api_keys.create_key(store_path, "a", ["predict"])
    assert cache.refresh() is True
    assert cache.caller(raw.encode()) is not None


@pytest.mark.parametrize("fault", ["gone", "damaged", "unreadable"])
def test_the_last_valid_keys_stay_in_use(store_path: Path, events: list[Any], fault: str) -> None:
    raw, _ = api_keys.create_key(store_path, "a", ["predict"])
    cache = KeyCache(store_path)
    good = store_path.read_bytes()
    store_path.unlink()
    if fault == "damaged":
        store_path.write_bytes(b"CANARY")
    elif fault == "unreadable":
        store_path.mkdir()
    for _ in range(3):
        assert cache.refresh() is False
    assert cache.caller(raw.encode()) is not None
    assert cache.read_error
    assert [event["event"] for event in events] == ["keys.unreadable"]
    assert "CANARY" not in str(events)
    if fault == "unreadable":
        store_path.rmdir()
    store_path.write_bytes(good)
    assert cache.refresh() is True
    assert cache.read_error == ""
    assert cache.caller(raw.encode()) is not None


def test_a_failed_read_of_an_unchanged_file_is_repeated(
    store_path: Path,
) -> None:
    raw, _ = api_keys.create_key(store_path, "a", ["predict"])
    cache = KeyCache(store_path)
    api_keys.revoke_key(store_path, "a")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert cache.refresh() is False
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert cache.caller(raw.encode()) is not None
    assert cache.refresh() is True
    assert cache.caller(raw.encode()) is None


def test_an_invalid_time_in_the_store_keeps_the_last_valid_keys(
    store_path: Path, events: list[Any]
) -> None:
    raw, entry = api_keys.create_key(store_path, "a", ["admin"], NOW + timedelta(days=36500))
    cache = KeyCache(store_path)
    good = store_path.read_text()
    assert entry.expires_at is not None
    store_path.write_text(good.replace(entry.expires_at, "9999-12-31T23:59:59-12:00"))
    cache.refresh()
    assert cache.read_error
    assert cache.caller(raw.encode()) is not None
    assert [event["event"] for event in events] == ["keys.unreadable"]
    store_path.write_text(good)
    api_keys.revoke_key(store_path, "a")
    cache.refresh()
    assert cache.caller(raw.encode()) is None


def test_a_refresh_is_repeated_after_an_unexpected_exception(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, _ = api_keys.create_key(store_path, "a", ["admin"])
    cached = KeyCache(store_path)
    api_keys.revoke_key(store_path, "a")

    def fail(path: Path) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(key_cache, "read_store", fail)
        with pytest.raises(MemoryError):
            cached.refresh()
    assert cached.refresh()
    assert cached.caller(raw.encode()) is None
