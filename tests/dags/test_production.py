"""What docs/airflow.md says of variables and files, held to Airflow itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.deployment.cluster import SHARED_OPTIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "airflow.md").read_text()
FERNET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
(CONNECTIONS,) = re.findall(r"```json\n(\{.*?\})\n```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def configured(
    airflow_environment: dict[str, str],
    run_script: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """What Airflow says where secrets stand in files, as the page tells."""
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "connections.json").write_text(CONNECTIONS)
    (secrets / "fernet_key").write_text(FERNET_KEY)
    backend = dict(re.findall(r"^(AIRFLOW__SECRETS__\w+)='?(.*?)'?$", PAGE, re.MULTILINE))
    assert set(backend) == {"AIRFLOW__SECRETS__BACKEND", "AIRFLOW__SECRETS__BACKEND_KWARGS"}
    environment = airflow_environment | {
        name: value.replace("/run/secrets", str(secrets)) for name, value in backend.items()
    }
    environment["AIRFLOW__CORE__FERNET_KEY_CMD"] = f"cat {secrets / 'fernet_key'}"
    (name,) = json.loads(CONNECTIONS)
    return run_script("configured.py", environment, name)


def test_a_connection_comes_from_a_file_without_the_database(configured: Any) -> None:
    assert [configured["connection"]] == list(json.loads(CONNECTIONS).values())


def test_a_secret_comes_from_a_file_by_a_command(configured: Any) -> None:
    assert configured["fernet_key"] == FERNET_KEY


def test_every_option_that_is_named_is_one(configured: Any) -> None:
    named = set(re.findall(r"AIRFLOW__([A-Z_]+?)(?:_CMD|_SECRET)?(?=[=`])", PAGE))
    assert len(named) > 8
    assert "LOGGING__REMOTE_BASE_LOG_FOLDER" in named
    assert named <= set(configured["options"])


def test_what_is_said_to_come_from_a_command_can(configured: Any) -> None:
    (row,) = [line for line in PAGE.splitlines() if "_CMD=cat" in line]
    listed = set(re.findall(r"`([A-Z_]+__[A-Z_]+)`", row))
    shared = {name.removeprefix("AIRFLOW__") for name in SHARED_OPTIONS}
    assert shared <= listed
    assert listed <= set(configured["sensitive"])
