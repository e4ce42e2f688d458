from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.clock import parse_time
from bc_pipeline.errors import ConfigError
from bc_pipeline.serving.model.model_watcher import ModelWatcher
from bc_pipeline.settings import Settings
from bc_pipeline.stack import doctor
from bc_pipeline.stack.distrust import distrust_key
from bc_pipeline.stack.doctor import CheckResult, check_all, require_machine
from bc_pipeline.stack.signing_keys import rotate_signing_key, stop_trusting
from tests.unit.promotion.conftest import Challengers


def found(settings: Settings) -> dict[str, CheckResult]:
    return {finding.name: finding for finding in check_all(settings)}


def ports(settings: Settings, first: int) -> Settings:
    names = ("airflow_port", "mlflow_port", "service_port")
    update = {name: first + index for index, name in enumerate(names)}
    return Settings(home=settings.home, **update)


def test_a_port_in_use_is_named_with_its_holder_and_the_remedy(settings: Settings) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        occupied = Settings(home=settings.home, service_port=port)
        finding = found(occupied)[f"port {port}"]
        assert not finding.ok
        assert "Address already in use" in finding.detail
        assert f"BC_SERVICE_PORT={port + 1}" in finding.remedy
        with pytest.raises(ConfigError, match=f"port {port}"):
            require_machine(occupied)


def test_two_settings_with_one_port_are_told_apart(settings: Settings) -> None:
    same = Settings(home=settings.home, airflow_port=18999, service_port=18999)
    finding = found(same)["port 18999"]
    assert not finding.ok
    assert "BC_AIRFLOW_PORT and BC_SERVICE_PORT" in finding.detail


def test_a_full_disk_is_named_before_anything_starts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES", 10**18)
    with pytest.raises(ConfigError, match="put BC_HOME on a larger disk"):
        require_machine(settings)
    assert not settings.home.exists()


def test_an_empty_volume_lacks_its_keys_and_nothing_else(settings: Settings) -> None:
    findings = found(settings)
    assert not findings["BC_SIGNING_KEY_FILE"].ok
    assert "make up" in findings["BC_SIGNING_KEY_FILE"].remedy
    assert findings["python"].ok


def test_a_damaged_audit_log_is_found(settings: Settings) -> None:
    (settings.home / "models" / "wdbc").mkdir(parents=True)
    audit = settings.home / "audit" / "wdbc.jsonl"
    audit.parent.mkdir()
    audit.write_text('{"sequence": 1}\n{"sequence": 2}\n')
    findings = found(settings)
    assert findings["wdbc champion"].ok
    assert not findings["wdbc audit log"].ok


def test_a_registry_older_than_what_was_served_is_found_with_the_way_out(
    settings: Settings, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    assert found(settings)["wdbc generation"].detail == "registry at 1, nothing served yet"
    old = releases.store.registry.read_bytes()
    releases.promote("v1")
    ModelWatcher(settings).refresh()
    assert found(settings)["wdbc generation"].detail == "registry at 2, served up to 2"
    releases.store.registry.write_bytes(old)
    finding = found(settings)["wdbc generation"]
    assert not finding.ok
    assert "generation 1, and generation 2 was served" in finding.detail
    assert f"delete {settings.records / 'served_registry.json'} and restart" in finding.remedy


def test_an_artifact_key_that_cannot_be_read_is_found(
    settings: Settings, releases: Any, fitted: Any, tmp_path: Path
) -> None:
    releases.publish("v1", fitted[0])
    without = settings.model_copy(update={"artifact_key_file": tmp_path / "none"})
    finding = found(without)["wdbc encryption"]
    assert not finding.ok
    assert "BC_ARTIFACT_KEY_FILE" in finding.remedy
    assert found(settings)["wdbc encryption"].detail == "versions: 1 plain"


def test_distrusted_keys_and_a_cut_audit_log_are_found(settings: Settings, releases: Any) -> None:
    made = Challengers(releases)
    made.crown("a")
    former = rotate_signing_key(settings, actor="a").replaces
    assert f"{former} trusted" in found(settings)["signing keys"].detail
    since = parse_time("2026-11-20")
    distrust_key(settings, former, since, reason="stolen", actor="a")
    finding = found(settings)["signing keys"]
    assert not finding.ok
    assert former in finding.detail
    assert "distrust" in finding.remedy
    stop_trusting(settings, former)
    finding = found(settings)["signing keys"]
    assert finding.ok
    assert f"{former} distrusted since 2026-11-20" in finding.detail
    ModelWatcher(settings).refresh()
    assert found(settings)["wdbc audit tip"].ok
    lines = made.store.audit.read_bytes().splitlines(keepends=True)
    made.store.audit.write_bytes(b"".join(lines[:-1]))
    finding = found(settings)["wdbc audit tip"]
    assert not finding.ok
    assert "its end was cut off" in finding.detail
