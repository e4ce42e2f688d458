"""The drill: a backup under load, the volume destroyed, and the service started from the backup."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings
from tests.e2e.service_process import Load, Service, running_service

# A store with a champion that was trained, judged and promoted.
STORE = Path(__file__).parents[1] / "contract" / "fixtures" / "store_1"
_READY_SECONDS = 20.0
_PAUSE = 0.02


def command(environment: dict[str, str], *words: str, code: int = 0) -> Any:
    program = Path(sys.executable).with_name("bc-pipeline")
    done = subprocess.run(
        [program, *words, "--json"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def environment_of(home: Path, key: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BC_")}
    return kept | {"BC_HOME": str(home), "BC_BACKUP_KEY_FILE": str(key)}


def look_up(service: Service, prediction_id: str) -> dict[str, Any]:
    status, found = service.ask("GET", f"/v1/predictions/{prediction_id}")
    assert status == 200, found
    return found


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "backup.key"
    path.write_text(os.urandom(32).hex())
    return path


def test_the_drill(tmp_path: Path, key: Path) -> None:
    home, new, shelf = tmp_path / "home", tmp_path / "new", tmp_path / "shelf"
    shutil.copytree(STORE, home)
    shelf.mkdir()
    rows = get_problem("wdbc").load_reference().values.tolist()
    with running_service(Settings(home=home), tmp_path, workers=2) as service:
        with Load(service, rows, clients=2, pause=_PAUSE) as load:
            service.wait_for(lambda: len(load.answers) > 60, _READY_SECONDS)
            told = load.answers[0]
            report = {"prediction_id": told.content["prediction_id"], "diagnosis": "malignant"}
            service.wait_for(
                lambda: service.ask("POST", "/v1/outcomes", report)[0] in (200, 201), _READY_SECONDS
            )
            before = list(load.answers)
            made = command(environment_of(home, key), "backup", str(shelf))
            during = len(load.answers) - len(before)
        assert load.failures == []
        assert during > 0
        assert {answer.status for answer in load.answers} == {200}
        # The launcher first, which would start the others again.
        processes = service.processes()
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(10)
    shutil.rmtree(home)

    # Another machine, which has the backup and its key.
    elsewhere = environment_of(new, key)
    assert command(elsewhere, "backup", "--verify", made["file"])["files"] == made["files"]
    command(elsewhere, "restore", made["file"], "--home", str(new))
    assert command(elsewhere, "audit", "verify")["lines"] == made["audit_lines"] == 3
    command(elsewhere, "restore", made["file"], "--home", str(new), code=3)
    with running_service(Settings(home=new), tmp_path, workers=1) as service:
        service.wait_for(lambda: service.ask("GET", "/health")[0] == 200, _READY_SECONDS)
        _, health = service.ask("GET", "/health")
        assert health["refused"]["count"] == 0
        for answer in before[:20]:
            status, again = service.ask("POST", "/predict", {"features": rows[answer.row]})
            assert status == 200
            for name in ("probability", "model_version", "manifest_sha256"):
                assert again[name] == answer.content[name]
        for answer in before:
            found = look_up(service, answer.content["prediction_id"])
            assert found["model_version"] == answer.content["model_version"]
        assert look_up(service, report["prediction_id"])["outcome"] is not None
        # While a service runs on a volume nothing is restored over it.
        command(elsewhere, "restore", made["file"], "--home", str(new), "--replace", code=7)
