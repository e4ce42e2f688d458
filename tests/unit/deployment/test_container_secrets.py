"""Secrets of a deployment in containers: made once, fit for each other, read by containers."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from bc_pipeline.artifacts import signing
from bc_pipeline.deployment.container_secrets import (
    NAMES,
    OPTIONAL,
    make_container_secrets,
    require_container_secrets,
)
from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def contents(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in NAMES}


def test_each_is_made_once(folder: Path) -> None:
    assert make_container_secrets(folder) == sorted(NAMES)
    before = contents(folder)
    assert make_container_secrets(folder) == []
    assert contents(folder) == before
    made = [value for name, value in before.items() if name not in OPTIONAL]
    assert len(set(made)) == len(made)
    assert min(len(value) for value in made) >= 43


def test_only_the_owner_comes_in_and_containers_can_read(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    make_container_secrets(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in NAMES:
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o444, name


def test_what_is_there_stays_and_what_says_the_same_follows_it(folder: Path) -> None:
    folder.mkdir()
    (folder / "redis_password").write_text("of-our-own")
    (folder / "airflow_db_url").write_text("postgresql+psycopg2://me:pw@db.example:5433/flow")
    made = make_container_secrets(folder)
    assert "redis_password" not in made
    values = contents(folder)
    assert values["redis_password"] == "of-our-own"
    assert values["celery_broker_url"] == "redis://:of-our-own@redis:6379/0"
    expected = "db+postgresql+psycopg2://me:pw@db.example:5433/flow"
    assert values["celery_result_url"] == expected


def test_they_are_what_their_readers_take(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_container_secrets(folder)
    Fernet((folder / "fernet_key").read_text())
    signature = signing.sign(b"data", folder / "signing_key")
    signing.verify(b"data", signature, folder / "verify_key")
    for name in ("records_url", "alert_webhook_url"):
        monkeypatch.setenv(f"BC_{name.upper()}_FILE", str(folder / name))
    settings = Settings()
    assert settings.records_url is not None
    assert settings.records_url.get_secret_value() == (folder / "records_url").read_text()
    assert settings.alert_webhook_url is None


def test_everything_that_is_wrong_is_named_and_nothing_is_told(folder: Path) -> None:
    make_container_secrets(folder)
    wrong = {
        "grafana_password": "",
        "jwt_secret": "canary-one\n",
        "celery_broker_url": "redis://:canary-two@redis:6379/0",
    }
    for name, value in wrong.items():
        (folder / name).chmod(0o644)
        (folder / name).write_text(value)
    with pytest.raises(ConfigError) as caught:
        require_container_secrets(folder)
    assert set(caught.value.setting.split(", ")) == set(wrong)
    assert "canary" not in str(caught.value)
    with pytest.raises(ConfigError, match="does not fit redis_password"):
        make_container_secrets(folder)


def test_an_address_that_cannot_be_read_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "airflow_db_url").write_text("sqlite:////tmp/canary")
    with pytest.raises(ConfigError, match="airflow_db_url") as caught:
        make_container_secrets(folder)
    assert "canary" not in str(caught.value)


def test_missing_ones_are_named(folder: Path) -> None:
    make_container_secrets(folder)
    (folder / "api_key").unlink()
    (folder / "signing_key").unlink()
    with pytest.raises(ConfigError, match="api_key, signing_key"):
        require_container_secrets(folder)
    # A new private key would make everything that was signed before unreadable.
    with pytest.raises(ConfigError, match=r"private key .* is missing"):
        make_container_secrets(folder)
