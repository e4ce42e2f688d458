"""A drill: back up under load, destroy the volume, restore it and start the service on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings
from tests.e2e.service_process import Load, Service, running_service
from tests.unit.backup.age_keys import make_key
from tests.volumes import copy_earlier_store
from tests.waiting import PATIENCE, wait_until

_PAUSE = 0.02


def command(environment: dict[str, str], *words: str, code: int = 0) -> Any:
    program = Path(sys.executable).with_name("bc-pipeline")
    done = subprocess.run(
        [program, *words, "--json"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def environment_of(home: Path, **variables: str) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("BC_")}
    return others | {"BC_HOME": str(home)} | variables


def look_up(service: Service, prediction_id: str) -> dict[str, Any]:
    status, prediction = service.ask("GET", f"/v1/predictions/{prediction_id}")
    assert status == 200, prediction
    return prediction


def test_a_service_is_restored_from_a_backup_taken_under_load(tmp_path: Path) -> None:
    home, new, backups = tmp_path / "home", tmp_path / "new", tmp_path / "backups"
    copy_earlier_store(Settings(home=home))
    command(environment_of(home), "upgrade")
    backups.mkdir()
    recipient = make_key(tmp_path / "backup.key")
    rows = get_problem("wdbc").load_reference().values.tolist()
    with running_service(Settings(home=home), tmp_path, workers=2) as service:
        with Load(service, rows, clients=2, pause=_PAUSE) as load:
            wait_until(lambda: len(load.answers) > 60)
            first = load.answers[0]
            report = {"prediction_id": first.content["prediction_id"], "diagnosis": "malignant"}
            wait_until(lambda: service.ask("POST", "/v1/outcomes", report)[0] in (200, 201))
            before = list(load.answers)
            backup = command(
                environment_of(home, BC_BACKUP_RECIPIENTS=recipient), "backup", str(backups)
            )
            during = len(load.answers) - len(before)
        assert load.failures == []
        assert during > 0
        assert {answer.status for answer in load.answers} == {200}
        # The launcher first, which would start the others again.
        processes = service.processes()
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(PATIENCE)
    shutil.rmtree(home)

    # Another machine, which has the backup and its key.
    machine = environment_of(new, BC_BACKUP_KEY_FILE=str(tmp_path / "backup.key"))
    assert command(machine, "backup", "--verify", backup["file"])["files"] == backup["files"]
    command(machine, "restore", backup["file"], "--home", str(new))
    assert command(machine, "audit", "verify")["lines"] == backup["audit_lines"] == 4
    command(machine, "restore", backup["file"], "--home", str(new), code=3)
    with running_service(Settings(home=new), tmp_path, workers=1) as service:
        wait_until(lambda: service.ask("GET", "/health")[0] == 200)
        _, health = service.ask("GET", "/health")
        assert health["refused"]["count"] == 0
        for answer in before[:20]:
            status, again = service.ask("POST", "/predict", {"features": rows[answer.row]})
            assert status == 200
            for name in ("probability", "model_version", "manifest_sha256"):
                assert again[name] == answer.content[name]
        for answer in before:
            prediction = look_up(service, answer.content["prediction_id"])
            assert prediction["model_version"] == answer.content["model_version"]
        assert look_up(service, report["prediction_id"])["outcome"] is not None
        # While a service runs on a volume nothing is restored over it.
        command(machine, "restore", backup["file"], "--home", str(new), "--replace", code=7)
