"""The `audit` commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.store import Store
from bc_pipeline.promotion import audit
from bc_pipeline.settings import Settings
from tests.unit.commands import run_command


@pytest.fixture
def logged(store: Store) -> Store:
    """A store whose audit log has three verdicts."""
    signing.make_keys(store.signing_key, store.verify_key)
    for number in range(3):
        version, at = f"v{number}", "2026-11-15T06:00:00Z"
        audit.append(store, "verdict", version=version, generation=0, actor="a", at=at)
    return store


def answer(*words: str, code: int = 0) -> Any:
    return json.loads(run_command("audit", *words, "--json", code=code).stdout)


def test_a_tip_is_one_line_that_is_checked_later(logged: Store, tmp_path: Path) -> None:
    shown = run_command("audit", "tip").stdout
    assert shown == run_command("audit", "tip", "--json").stdout
    assert shown.count("\n") == 1
    assert json.loads(shown)["sequence"] == 3
    path = tmp_path / "tip.json"
    path.write_text(shown)
    assert answer("verify", "--tip", str(path))["compared_with_tip"] == 3
    assert answer("verify")["compared_with_tip"] is None
    assert run_command("audit", "verify", "--tip", "-", reply=shown).stdout
    lines = logged.audit.read_bytes().splitlines(keepends=True)
    logged.audit.write_bytes(b"".join(lines[:2]))
    assert answer("verify")["lines"] == 2
    error = answer("verify", "--tip", str(path), code=6)["error"]
    assert error["code"] == "audit-broken"
    assert "its end was cut off" in error["message"]


def test_there_is_no_tip_of_nothing(store: Store) -> None:
    assert answer("tip", code=6)["error"]["code"] == "not-stored"


def test_a_tip_that_is_none_ends_in_one_message(logged: Store, tmp_path: Path) -> None:
    path = tmp_path / "tip.json"
    assert "cannot be read" in answer("verify", "--tip", str(path), code=3)["error"]["message"]
    path.write_bytes(b"\xff{}")
    assert answer("verify", "--tip", str(path), code=6)["error"]["code"] == "artifact-corrupt"
    assert answer("verify", "--tip", "/dev/zero", code=3)["error"]["code"] == "config"


def test_a_tip_that_the_service_remembers_is_compared(logged: Store, settings: Settings) -> None:
    settings.records.mkdir(parents=True)
    (settings.records / "audit_tip.json").write_text(run_command("audit", "tip").stdout)
    assert answer("verify")["lines"] == 3
    lines = logged.audit.read_bytes().splitlines(keepends=True)
    logged.audit.write_bytes(b"".join(lines[:2]))
    error = answer("verify", code=6)["error"]
    assert "its end was cut off" in error["message"]
    assert "audit_tip.json" in error["remedy"]


def test_the_log_is_listed_with_reasons_the_latest_first(logged: Store) -> None:
    details = {"replaces": "v2", "reason": "harm at clinic B", "release": "rollback"}
    for event in ("release_started", "rollback"):
        audit.append(logged, event, version="v1", generation=2, actor="ada", details=details)
    lines = answer("list")
    assert [(line["event"], line["version"]) for line in lines] == [
        ("rollback", "v1"),
        ("verdict", "v2"),
        ("verdict", "v1"),
        ("verdict", "v0"),
    ]
    assert (lines[0]["actor"], lines[0]["reason"]) == ("ada", "harm at clinic B")
    # Also where a version was replaced.
    assert [line["event"] for line in answer("list", "v2")] == ["rollback", "verdict"]
    assert "harm at clinic B" in run_command("audit", "list").stdout
