"""kill -9 during a backup or a restore leaves no incomplete backup or volume in use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.backup.create import create_backup
from bc_pipeline.settings import Settings
from tests.unit.backup import processes

pytestmark = pytest.mark.integration

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
    reports: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())
    return reports


def test_a_killed_backup_leaves_no_backup(volume: Settings, tmp_path: Path) -> None:
    reports = run("backup", volume, tmp_path, stride=6)
    assert len(reports) > 8
    assert {report["code"] for report in reports[:-1]} == {-9}
    complete = {"versions": 2, "audit_lines": 2, "tables": 1}
    # A file with the final name was checked. A file without it is incomplete, unless the process
    # was killed between its last byte and the rename.
    assert not reports[0]["named"]
    assert reports[-1]["named"]
    unnamed = [counts for report in reports for counts in report["unnamed"]]
    assert unnamed.count(None) > 4
    assert all(counts in (None, complete) for counts in unnamed)
    assert all(report["again"] == complete and report["scratch"] == [] for report in reports)


def test_a_killed_restore_leaves_no_volume(volume: Settings, tmp_path: Path) -> None:
    file = create_backup(volume, tmp_path / "backup").path
    reports = run("restore", volume, tmp_path, stride=7, file=str(file))
    assert len(reports) > 8
    assert {report["code"] for report in reports[:-1]} == {-9}
    assert {report["state"] for report in reports} == {"empty", "refused", "whole"}
    # A service, which asks for the champion alone, finds none before all of it is there.
    areas = set(reports[-1]["areas"])
    assert {"audit", "data", "keys", "mlflow", "models", "records"} <= areas
    assert all(set(report["areas"]) == areas for report in reports if report["champion"])
    assert all(report["again"] == "whole" for report in reports)
