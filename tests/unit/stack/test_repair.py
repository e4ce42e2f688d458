"""An edited registry: found by doctor and status, and made again by one command."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.cli.app import app
from bc_pipeline.cli.output import UNHEALTHY
from bc_pipeline.serving.model.model_watcher import ModelWatcher
from bc_pipeline.serving.model.replay_guard import FILE
from bc_pipeline.settings import Settings
from bc_pipeline.stack import control
from bc_pipeline.stack.doctor import check_volume
from tests.unit.backup.conftest import promote


@pytest.fixture
def edited(releases: Any, fitted: Any, settings: Settings) -> bytes:
    """The registry as it was; on the volume it has a generation of 10^9."""
    for name, model in zip(("v1", "v2"), fitted, strict=False):
        releases.publish(name, model)
        promote(releases.store, name)
    watcher = ModelWatcher(settings)
    watcher.refresh()
    assert watcher.current is not None
    path = releases.store.registry
    sound: bytes = path.read_bytes()
    path.write_bytes(sound.replace(b'"generation": 2', b'"generation": 1000000000'))
    return sound


def test_doctor_and_status_name_the_remedy(edited: bytes, settings: Settings) -> None:
    (found,) = [check for check in check_volume(settings) if check.name == "wdbc registry"]
    assert not found.ok
    assert "registry.json was changed" in found.detail
    assert "bc-pipeline registry --repair" in found.remedy
    report = control.status(settings)
    assert report["champion"]["version"] is None
    assert "bc-pipeline registry --repair" in report["champion"]["fault"]
    shown = CliRunner().invoke(app, ["status", "--json"])
    assert shown.exit_code == UNHEALTHY
    assert "registry.json was changed" in json.loads(shown.stdout)["champion"]["fault"]


def test_the_command_makes_it_again(edited: bytes, releases: Any, settings: Settings) -> None:
    remembered = settings.records / FILE
    remembered.write_text(
        remembered.read_text().replace('\\"generation\\": 2', '\\"generation\\": 9')
    )
    done = CliRunner().invoke(app, ["registry", "--repair", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["registry"]["generation"] == 2
    assert not remembered.exists()
    registry = read_registry(releases.store)
    assert registry.production is not None
    assert registry.production.version == "v2"
    checks = {check.name: check for check in check_volume(settings)}
    assert all(checks[f"wdbc {name}"].ok for name in ("registry", "champion", "generation"))
    watcher = ModelWatcher(settings)
    watcher.refresh()
    assert watcher.current is not None
    assert (watcher.current.version, watcher.refusals) == ("v2", 0)
