"""What the service remembers of the audit log."""

from __future__ import annotations

from pathlib import Path

import pytest

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.remembered_tip import FILE, read_remembered_tip
from bc_pipeline.artifacts.store import Store
from bc_pipeline.promotion import audit
from bc_pipeline.serving.model.audit_watch import AuditWatch


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "records"
    folder.mkdir()
    return folder


@pytest.fixture
def store(store: Store) -> Store:
    """A store whose audit log has three lines."""
    signing.make_keys(store.signing_key, store.verify_key)
    for number in range(3):
        _append(store, f"v{number}")
    return store


def _append(store: Store, version: str) -> None:
    at = "2026-11-15T06:00:00Z"
    audit.append(store, "verdict", version=version, generation=0, actor="a", at=at)


def _cut(store: Store, lines: int) -> None:
    first_lines = store.audit.read_bytes().splitlines(keepends=True)[:lines]
    store.audit.write_bytes(b"".join(first_lines))


def test_the_newest_tip_is_remembered(store: Store, records: Path) -> None:
    watch = AuditWatch(store, records)
    watch.refresh()
    assert watch.fault is None
    assert read_remembered_tip(records / FILE) == read_audit_log(store).tip
    _append(store, "later")
    watch.refresh()
    assert read_remembered_tip(records / FILE).sequence == 4


@pytest.mark.parametrize("restarted", [True, False])
def test_a_log_that_was_cut_off_is_a_fault_until_it_is_restored(
    store: Store, records: Path, restarted: bool
) -> None:
    watch = AuditWatch(store, records)
    watch.refresh()
    whole = store.audit.read_bytes()
    _cut(store, 2)
    watch = AuditWatch(store, records) if restarted else watch
    watch.refresh()
    assert watch.fault.code == "audit-broken"
    assert "its end was cut off" in watch.fault.reason
    assert str(store.home) not in watch.fault.reason
    # A new line does not hide it.
    _append(store, "v2 again")
    watch.refresh()
    assert "Line 3" in watch.fault.reason
    store.audit.write_bytes(whole)
    watch.refresh()
    assert watch.fault is None


def test_a_log_that_vanished_is_a_fault(store: Store, records: Path) -> None:
    watch = AuditWatch(store, records)
    watch.refresh()
    store.audit.unlink()
    watch.refresh()
    assert watch.fault.code == "audit-broken"
    (records / FILE).unlink()
    watch.refresh()
    assert watch.fault is None


def test_a_folder_that_cannot_be_written_stops_nothing(store: Store, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"")
    watch = AuditWatch(store, blocked)
    watch.refresh()
    assert watch.fault is None


def test_distrusted_keys_are_known(store: Store, records: Path) -> None:
    details = {"key_id": "0" * 16, "trusted_sequence": 0, "since": "2026-11-15T00:00:00Z"}
    audit.append(
        store,
        "key_distrusted",
        version="",
        generation=0,
        actor="a",
        at="2026-11-15T06:00:00Z",
        details=details,
    )
    watch = AuditWatch(store, records)
    watch.refresh()
    assert watch.distrusted_keys == ("0" * 16,)
