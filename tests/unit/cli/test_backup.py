"""The commands `backup`, `restore` and `upgrade`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.store import Store
from bc_pipeline.cli.app import app
from bc_pipeline.settings import Settings

STORE = Path(__file__).parents[2] / "contract" / "fixtures" / "store_1"


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [*words])
    assert result.exit_code == code, result.output
    return result


def told(*words: str, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", code=code).stdout)


@pytest.fixture
def home(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(STORE, settings.home)
    (tmp_path / "key").write_text(os.urandom(32).hex())
    monkeypatch.setenv("BC_BACKUP_KEY_FILE", str(tmp_path / "key"))
    return settings.home


def test_a_backup_is_written_checked_and_restored(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    made = told("backup", str(file))
    assert made["size"] == file.stat().st_size
    assert (made["versions"], made["audit_lines"], made["generations"]) == (1, 3, {"wdbc": 1})
    assert made["databases"] == {"records/wdbc/predictions.sqlite": "sqlite 0001"}
    assert told("backup", "--verify", str(file))["files"] == made["files"]
    new = tmp_path / "new"
    done = told("restore", str(file), "--home", str(new))
    assert (done["home"], done["records"], done["set_aside"]) == (str(new), "file", [])
    assert (new / "models" / "wdbc" / "registry.json").exists()
    assert told("restore", str(file), "--home", str(new), "--replace")["set_aside"] != []


def test_people_are_shown_a_table(home: Path, tmp_path: Path) -> None:
    shown = run("backup", str(tmp_path / "backup")).stdout
    assert "wdbc: 1" in shown
    assert "{" not in shown
    assert "{" not in run("restore", str(tmp_path / "backup"), "--home", str(tmp_path / "n")).stdout


def test_exit_codes_tell_what_is_wrong(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backup"
    told("backup", str(file))
    told("backup", str(file), code=3)
    told("restore", str(file), code=3)
    told("backup", "--verify", str(tmp_path / "none"), code=6)
    file.write_bytes(file.read_bytes()[:-1])
    assert told("backup", "--verify", str(file), code=6)["error"]["code"] == "backup-invalid"
    assert told("restore", str(file), "--home", str(tmp_path / "new"), code=6)["error"]["remedy"]
    (home / "audit" / "wdbc.jsonl").write_bytes(b"x\n")
    assert told("backup", str(tmp_path / "other"), code=6)["error"]["code"] == "backup-invalid"
    assert not (tmp_path / "other").exists()
    monkeypatch.delenv("BC_BACKUP_KEY_FILE")
    told("backup", str(tmp_path / "other"), code=3)


def test_a_backup_that_is_told_to_end_leaves_nothing(home: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    program = Path(sys.executable).with_name("bc-pipeline")
    with locked(Store(home, "wdbc").registry_lock):
        process = subprocess.Popen([program, "backup", shelf], stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while not list(shelf.iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.terminate()
            assert process.wait(20) == 143
        finally:
            process.kill()
            process.wait(10)
    assert list(shelf.iterdir()) == []
    assert list(home.glob(".backup-*")) == []


def test_an_upgrade_is_told_and_done(home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    assert told("upgrade", "--dry-run") == {
        "found": 1,
        "format": 1,
        "steps": [],
        "database_found": "0001",
        "database": "0001",
    }
    assert not (home / "store.json").exists()
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert told("upgrade")["database"] == "0001"
    assert json.loads((home / "store.json").read_text()) == {"format": 1}
    (home / "store.json").write_text('{"format": 2}')
    assert told("upgrade", code=6)["error"]["code"] == "store-unfit"
    assert told("registry", code=6)["error"]["found"] == 2
