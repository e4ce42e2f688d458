from __future__ import annotations

import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.access import keys, ring
from bc_pipeline.access.ring import KeyRing
from bc_pipeline.errors import ConfigError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_key_is_found_until_it_expires(store_path: Path) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        raw, entry = keys.create_key(store_path, "a", ["predict"], NOW + timedelta(minutes=1))
        ring = KeyRing(store_path)
        assert ring.find(raw.encode()) == entry
        clock.shift(59.999)
        assert ring.find(raw.encode()) == entry
        # No refresh is needed for that.
        clock.shift(0.001)
        assert ring.find(raw.encode()) is None
        assert ring.caller(raw.encode()) is None
        assert ring.refused(raw.encode()) == ("expired", entry.id)


def test_changes_are_seen_after_a_refresh(store_path: Path) -> None:
    raw, entry = keys.create_key(store_path, "a", ["admin"])
    ring = KeyRing(store_path)
    assert ring.refresh() is False
    other, _ = keys.create_key(store_path, "b", ["read"])
    assert ring.find(other.encode()) is None
    assert ring.refresh() is True
    assert ring.find(other.encode()) is not None
    keys.revoke_key(store_path, "a")
    assert ring.refresh() is True
    assert ring.find(raw.encode()) is None
    assert ring.refused(raw.encode()) == ("revoked", entry.id)


def test_both_keys_work_while_a_rotation_overlaps(store_path: Path) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        old, _ = keys.create_key(store_path, "a", ["predict"])
        new, _ = keys.rotate_key(store_path, "a", timedelta(hours=1))
        ring = KeyRing(store_path)
        assert all(ring.find(raw.encode()) for raw in (old, new))
        clock.shift(timedelta(hours=1))
        assert ring.find(old.encode()) is None
        assert ring.find(new.encode()) is not None


def test_any_string_can_be_a_key(store_path: Path) -> None:
    keys.import_key(store_path, "local", ["admin"], "of-the-earlier-release")
    assert KeyRing(store_path).find(b"of-the-earlier-release") is not None


@given(raw=st.binary(max_size=200))
def test_nothing_else_is_a_key(raw: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "ring" / "keys.json"
    if not path.exists():
        keys.create_key(path, "a", ["predict"])
    assert KeyRing(path).find(raw) is None


def test_a_missing_store_stops_the_start(store_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        KeyRing(store_path)
    ring = KeyRing(store_path, optional=True)
    raw, _ = keys.create_key(store_path, "a", ["predict"])
    assert ring.refresh() is True
    assert ring.find(raw.encode()) is not None


@pytest.mark.parametrize("fault", ["gone", "damaged", "unreadable"])
def test_the_last_good_keys_go_on(store_path: Path, events: list[Any], fault: str) -> None:
    raw, _ = keys.create_key(store_path, "a", ["predict"])
    ring = KeyRing(store_path)
    good = store_path.read_bytes()
    store_path.unlink()
    if fault == "damaged":
        store_path.write_bytes(b"CANARY")
    elif fault == "unreadable":
        store_path.mkdir()
    for _ in range(3):
        assert ring.refresh() is False
    assert ring.find(raw.encode()) is not None
    assert ring.fault
    assert [event["event"] for event in events] == ["keys.unreadable"]
    assert "CANARY" not in str(events)
    if fault == "unreadable":
        store_path.rmdir()
    store_path.write_bytes(good)
    assert ring.refresh() is True
    assert ring.fault == ""
    assert ring.find(raw.encode()) is not None


def test_a_fault_that_leaves_the_file_as_it_was_is_got_over(
    store_path: Path,
) -> None:
    raw, _ = keys.create_key(store_path, "a", ["predict"])
    ring = KeyRing(store_path)
    keys.revoke_key(store_path, "a")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert ring.refresh() is False
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ring.find(raw.encode()) is not None
    assert ring.refresh() is True
    assert ring.find(raw.encode()) is None


def test_a_store_with_a_time_that_no_calendar_has_leaves_the_good_keys(
    store_path: Path, events: list[Any]
) -> None:
    raw, entry = keys.create_key(store_path, "a", ["admin"], NOW + timedelta(days=36500))
    ring = KeyRing(store_path)
    good = store_path.read_text()
    assert entry.expires_at is not None
    store_path.write_text(good.replace(entry.expires_at, "9999-12-31T23:59:59-12:00"))
    ring.refresh()
    assert ring.fault
    assert ring.find(raw.encode()) is not None
    assert [event["event"] for event in events] == ["keys.unreadable"]
    store_path.write_text(good)
    keys.revoke_key(store_path, "a")
    ring.refresh()
    assert ring.find(raw.encode()) is None


def test_what_nobody_foresaw_is_tried_again(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, _ = keys.create_key(store_path, "a", ["admin"])
    held = KeyRing(store_path)
    keys.revoke_key(store_path, "a")

    def fail(path: Path) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(ring, "read_store", fail)
        with pytest.raises(MemoryError):
            held.refresh()
    assert held.refresh()
    assert held.find(raw.encode()) is None
