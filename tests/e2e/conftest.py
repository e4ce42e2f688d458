"""The whole stack, started once with ``bc-pipeline up`` on free ports."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.e2e.running import Stack, free_ports, run_command


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack") / "home"
    ports = free_ports(3)
    names = ("BC_AIRFLOW_PORT", "BC_MLFLOW_PORT", "BC_SERVICE_PORT")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BC_")}
    environment = (
        inherited
        | {"BC_HOME": str(home)}
        | {name: str(port) for name, port in zip(names, ports, strict=True)}
    )
    try:
        done = run_command(environment, "up")
        assert done.returncode == 0, done.stdout + done.stderr
        yield Stack(environment, json.loads(done.stdout))
    finally:
        run_command(environment, "down")
