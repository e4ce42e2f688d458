from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from pathlib import Path

import pytest

from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings, load_settings


def test_every_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BC_AIRFLOW_PORT", "99999")
    monkeypatch.setenv("BC_RELOAD_SECONDS", "0")
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert error.value.setting == "BC_AIRFLOW_PORT, BC_RELOAD_SECONDS"
    assert "BC_AIRFLOW_PORT" in str(error.value)


def test_keys_stand_on_the_volume_unless_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = load_settings(home=tmp_path)
    assert settings.signing_key == tmp_path / "keys" / "signing.pem"
    assert settings.verify_key == tmp_path / "keys" / "verify.pem"
    assert settings.api_key == tmp_path / "keys" / "api_key"
    monkeypatch.setenv("BC_VERIFY_KEY_FILE", "/etc/keys/public.pem")
    assert load_settings(home=tmp_path).verify_key == Path("/etc/keys/public.pem")


def test_settings_do_not_change_and_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BC_ALERT_WEBHOOK_URL", "https://hooks.example/canary-token")
    settings = load_settings()
    assert "canary-token" not in repr(settings)
    with pytest.raises(ValueError, match="frozen"):
        settings.airflow_port = 1  # type: ignore[misc]  # that it cannot be set is the test


def test_mlflow_is_the_embedded_one_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(mlflow_port=5001).tracking_uri == "http://127.0.0.1:5001"
    monkeypatch.setenv("BC_MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert load_settings().tracking_uri == "http://mlflow:5000"


def test_a_path_means_the_same_in_every_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BC_HOME", "volume")
    monkeypatch.setenv("BC_SIGNING_KEY_FILE", "signing.pem")
    settings = load_settings()
    assert settings.home == tmp_path / "volume"
    assert settings.signing_key == tmp_path / "signing.pem"


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BC_ALERT_WEBHOOK_URL", "")
    monkeypatch.setenv("BC_SIGNING_KEY_FILE", "")
    settings = load_settings()
    assert settings.alert_webhook_url is None
    assert settings.signing_key == settings.home / "keys" / "signing.pem"


def test_every_setting_says_what_it_means() -> None:
    (definition,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(definition, ast.ClassDef)
    said = [
        statement.target.id
        for statement, following in pairwise(definition.body)
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
        and following.value.value
    ]
    assert said == list(Settings.model_fields)


def test_a_secret_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql+psycopg://u:canary@h/d\n")
    monkeypatch.setenv("BC_RECORDS_URL_FILE", str(tmp_path / "url"))
    settings = load_settings()
    assert settings.records_url is not None
    assert settings.records_url.get_secret_value() == "postgresql+psycopg://u:canary@h/d"
    assert "canary" not in repr(settings)
    monkeypatch.setenv("BC_RECORDS_URL_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert error.value.setting == "BC_RECORDS_URL_FILE"


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BC_ALLOWED_ADDRESSES", "10.0.0.0/8, ::1")
    assert load_settings().allowed_addresses == ("10.0.0.0/8", "::1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BC_ALLOWED_ADDRESSES", "10.0.0.0/8,nowhere"),
        ("BC_JWT_ALGORITHMS", "HS256"),
        ("BC_JWT_ALGORITHMS", "none"),
        ("BC_JWT_LEEWAY_SECONDS", "61"),
        ("BC_RATE_LIMIT_KEY", "0/minute"),
        ("BC_TLS_CERT_FILE", "/etc/cert.pem"),
        ("BC_JWT_ISSUER", "https://issuer.example"),
    ],
)
def test_a_setting_that_would_weaken_the_service_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name) as error:
        load_settings()
    assert "canary" not in str(error.value)
