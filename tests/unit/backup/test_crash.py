"""kill -9 in the middle of a backup or a restore leaves nothing that passes for whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bc_pipeline.backup.make import make_backup
from bc_pipeline.settings import Settings
from tests.unit.backup import processes

ROOT = Path(__file__).parents[3]


def run(mode: str, settings: Settings, folder: Path, **plan: Any) -> list[dict[str, Any]]:
    room = folder / "room"
    room.mkdir()
    plan |= {"home": str(settings.home), "key": str(settings.backup_key_file), "room": str(room)}
    (folder / "plan.json").write_text(json.dumps(plan))
    command = [sys.executable, processes.__file__, mode]
    command += [str(folder / "plan.json"), str(folder / "report.json")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())
    return seen


def test_a_killed_backup_leaves_no_backup(volume: Settings, tmp_path: Path) -> None:
    seen = run("backup", volume, tmp_path, stride=6)
    assert len(seen) > 8
    assert {each["code"] for each in seen[:-1]} == {-9}
    whole = {"versions": 2, "audit_lines": 2, "tables": 1}
    # What bears the name was checked as a whole. What was left without it does not open, unless
    # the kill came between its last byte and its name.
    assert not seen[0]["named"]
    assert seen[-1]["named"]
    unnamed = [found for each in seen for found in each["unnamed"]]
    assert unnamed.count(None) > 4
    assert all(found in (None, whole) for found in unnamed)
    assert all(each["again"] == whole and each["scratch"] == [] for each in seen)


def test_a_killed_restore_leaves_no_volume(volume: Settings, tmp_path: Path) -> None:
    file = make_backup(volume, tmp_path / "backup").path
    seen = run("restore", volume, tmp_path, stride=7, file=str(file))
    assert len(seen) > 8
    assert {each["code"] for each in seen[:-1]} == {-9}
    assert {each["state"] for each in seen} == {"empty", "refused", "whole"}
    # A service, which asks for the champion alone, finds none before all of it is there.
    whole = set(seen[-1]["areas"])
    assert {"audit", "data", "keys", "mlflow", "models", "records"} <= whole
    assert all(set(each["areas"]) == whole for each in seen if each["champion"])
    assert all(each["again"] == "whole" for each in seen)
