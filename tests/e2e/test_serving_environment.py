"""The service in an environment of its own: what its lock names is all that it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service_process import running_service
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
ABSENT = ("sklearn", "pandas", "mlflow", "airflow", "great_expectations", "joblib", "matplotlib")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of an environment with nothing but ``requirements/serving.txt``."""
    folder = tmp_path_factory.mktemp("serving") / "venv"
    uv = Path(sys.executable).with_name("uv")
    install = [uv, "pip", "install", "--quiet", "--python", folder, "--require-hashes"]
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, folder],
        [*install, "--requirement", ROOT / "requirements" / "serving.txt"],
    ):
        subprocess.run(command, check=True, timeout=240)
    return folder / "bin" / "python"


def test_it_answers_and_has_no_training_stack(
    python: Path, releases: Any, fitted: Any, reference: Any, settings: Any, tmp_path: Path
) -> None:
    code = f"from importlib.util import find_spec; print([n for n in {ABSENT} if find_spec(n)])"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    record = {"features": reference[0][0].tolist()}
    with running_service(
        settings, tmp_path, python=python, PYTHONPATH=str(ROOT), workers=1
    ) as service:
        wait_until(lambda: service.version() == "v1")
        status, answer = service.ask("POST", "/v1/predict", record)
        assert (status, answer["label"]) == (200, "malignant")
        assert service.ask("POST", "/v1/explain", record)[0] == 200
        report = {"prediction_id": answer["prediction_id"], "diagnosis": "M"}
        wait_until(lambda: service.ask("POST", "/v1/outcomes", report)[0] in (200, 201))
