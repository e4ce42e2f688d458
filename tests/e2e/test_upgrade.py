"""Upgrading a volume that is in use: the real service and the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts.signed_document import SIGNATURE_SUFFIX
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import STORE_FORMAT, read_format, write_format
from bc_pipeline.auth.api_keys import import_key
from bc_pipeline.settings import Settings
from tests.e2e.service_process import KEY, Load, running_service
from tests.volumes import copy_earlier_store
from tests.waiting import PATIENCE, wait_until


def run(settings: Settings, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=os.environ | {"BC_HOME": str(settings.home)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def upgrade(settings: Settings) -> dict[str, Any]:
    done = run(settings, Path(sys.executable).with_name("bc-pipeline"), "upgrade", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_the_service_refuses_a_volume_of_an_earlier_format_in_one_line(settings: Settings) -> None:
    copy_earlier_store(settings)
    import_key(settings.service_keys, "e2e", ["admin"], KEY)
    done = run(settings, sys.executable, "-m", "bc_pipeline.server", "--port", "0")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(said) == 1, done.stderr
    assert f"has format 1; this release uses format {STORE_FORMAT}" in said[0]
    assert "run `bc-pipeline upgrade`" in said[0]


def test_no_request_fails_while_the_volume_is_upgraded(
    settings: Settings, tmp_path: Path, reference: Any
) -> None:
    copy_earlier_store(settings)
    store = Store(settings.home, "wdbc")
    assert upgrade(settings)["refused"] == []
    with (
        running_service(settings, tmp_path) as service,
        Load(service, reference[0].tolist(), clients=2) as load,
    ):
        wait_until(lambda: load.answers, what="the first answer")
        version = service.version()
        generation = store.registry.read_bytes()
        # As an operator leaves it who went back to the release before.
        write_format(settings.home, 1)
        report = upgrade(settings)
        assert (report["found"], report["format"], report["signed"]) == (1, STORE_FORMAT, [])
        answered = len(load.answers)
        wait_until(lambda: len(load.answers) > answered + 100, what="answers after the upgrade")
        load.stop()
        health = service.ask("GET", "/health")[1]
    assert read_format(settings.home) == STORE_FORMAT
    assert load.failures == []
    assert {answer.status for answer in load.answers} == {200}
    assert (health["model_version"], health["refused"]["count"]) == (version, 0)
    assert store.registry.read_bytes() == generation
    assert len(list(store.registry.parent.glob(f"registry.json.*{SIGNATURE_SUFFIX}"))) == 1
