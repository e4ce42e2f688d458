"""The commands `backup`, `restore` and `upgrade`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import STORE_FORMAT
from bc_pipeline.settings import Settings
from tests.unit.backup.age_keys import make_key
from tests.unit.commands import run_command
from tests.volumes import copy_earlier_store
from tests.waiting import PATIENCE, wait_until


def answer(*words: str, code: int = 0) -> Any:
    return json.loads(run_command(*words, "--json", code=code).stdout)


@pytest.fixture
def home(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_earlier_store(settings)
    monkeypatch.setenv("BC_BACKUP_RECIPIENTS", make_key(tmp_path / "key"))
    monkeypatch.setenv("BC_BACKUP_KEY_FILE", str(tmp_path / "key"))
    return settings.home


def test_a_backup_is_written_checked_and_restored(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    created = answer("backup", str(file))
    assert created["size"] == file.stat().st_size
    assert (created["versions"], created["audit_lines"], created["generations"]) == (
        1,
        3,
        {"wdbc": 1},
    )
    assert created["databases"] == {"records/wdbc/predictions.sqlite": "sqlite 0001"}
    assert answer("backup", "--verify", str(file))["files"] == created["files"]
    new = tmp_path / "new"
    restored = answer("restore", str(file), "--home", str(new))
    assert (restored["home"], restored["records"], restored["set_aside"]) == (str(new), "file", [])
    assert (new / "models" / "wdbc" / "registry.json").exists()
    assert answer("restore", str(file), "--home", str(new), "--replace")["set_aside"] != []


def test_people_are_shown_a_table(home: Path, tmp_path: Path) -> None:
    shown = run_command("backup", str(tmp_path / "backup")).stdout
    assert "wdbc: 1" in shown
    assert "{" not in shown
    assert (
        "{"
        not in run_command(
            "restore", str(tmp_path / "backup"), "--home", str(tmp_path / "n")
        ).stdout
    )


def test_failures_have_their_exit_codes(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backup"
    answer("backup", str(file))
    answer("backup", str(file), code=3)
    answer("restore", str(file), code=3)
    answer("backup", "--verify", str(tmp_path / "none"), code=6)
    file.write_bytes(file.read_bytes()[:-1])
    assert answer("backup", "--verify", str(file), code=6)["error"]["code"] == "backup-invalid"
    assert answer("restore", str(file), "--home", str(tmp_path / "new"), code=6)["error"]["remedy"]
    (home / "audit" / "wdbc.jsonl").write_bytes(b"x\n")
    assert answer("backup", str(tmp_path / "other"), code=6)["error"]["code"] == "backup-invalid"
    assert not (tmp_path / "other").exists()
    monkeypatch.delenv("BC_BACKUP_KEY_FILE")
    answer("backup", "--verify", str(file), code=3)
    answer("restore", str(file), "--home", str(tmp_path / "new"), code=3)
    monkeypatch.delenv("BC_BACKUP_RECIPIENTS")
    answer("backup", str(tmp_path / "other"), code=3)


@pytest.mark.integration
def test_a_terminated_backup_leaves_no_files(home: Path, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    program = Path(sys.executable).with_name("bc-pipeline")
    with locked(Store(home, "wdbc").registry_lock):
        process = subprocess.Popen([program, "backup", backups], stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: list(backups.iterdir()), what="the backup has begun")
            process.terminate()
            assert process.wait(PATIENCE) == 143
        finally:
            process.kill()
            process.wait(PATIENCE)
    assert list(backups.iterdir()) == []
    assert list(home.glob(".backup-*")) == []


def test_an_upgrade_is_shown_and_done(home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    planned = answer("upgrade", "--dry-run")
    assert (planned["found"], planned["format"], planned["refused"]) == (1, STORE_FORMAT, [])
    assert planned["database_found"] == "0001"
    assert not (home / "store.json").exists()
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert answer("upgrade")["signed"] == planned["signed"] != []
    assert json.loads((home / "store.json").read_text()) == {"format": STORE_FORMAT}
    later = STORE_FORMAT + 1
    (home / "store.json").write_text(json.dumps({"format": later}))
    assert answer("upgrade", code=6)["error"]["code"] == "store-unfit"
    assert answer("registry", code=6)["error"]["fields"]["found"] == later
