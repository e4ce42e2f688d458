"""The whole stack, started once with ``bc-pipeline up`` on free ports; tests in two rows.

Most of these tests wait for processes. Those of deployments run beside those of the stack:
each row keeps its order, its stack, its cluster and its images to itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import Stack, free_ports, run_command

_HERE = Path(__file__).parent
_OF_DEPLOYMENTS = {
    f"test_{name}.py"
    for name in ("backup", "cluster_init", "compose", "distributed", "git_bundle", "images")
}


# Before xdist reads the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            row = "deployments" if item.path.name in _OF_DEPLOYMENTS else "stack"
            item.add_marker(pytest.mark.xdist_group(row))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack") / "home"
    ports = free_ports(3)
    names = ("BC_AIRFLOW_PORT", "BC_MLFLOW_PORT", "BC_SERVICE_PORT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BC_")}
    environment = (
        kept
        | {"BC_HOME": str(home)}
        | {name: str(port) for name, port in zip(names, ports, strict=True)}
    )
    try:
        done = run_command(environment, "up")
        assert done.returncode == 0, done.stdout + done.stderr
        yield Stack(environment, json.loads(done.stdout))
    finally:
        run_command(environment, "down")
