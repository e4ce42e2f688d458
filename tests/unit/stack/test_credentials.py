from __future__ import annotations

import json
import stat

from bc_pipeline.auth.callers import SCOPES
from bc_pipeline.auth.key_cache import KeyCache
from bc_pipeline.auth.key_store import list_keys
from bc_pipeline.settings import Settings
from bc_pipeline.stack.components import airflow_environment, components
from bc_pipeline.stack.credentials import make_secrets, read_secret


def test_secrets_are_made_once_and_only_the_owner_reads_them(settings: Settings) -> None:
    make_secrets(settings)
    keys = settings.home / "keys"
    before = {path: path.read_bytes() for path in keys.iterdir()}
    make_secrets(settings)
    assert {path: path.read_bytes() for path in keys.iterdir()} == before
    for path in before:
        if path not in (settings.verify_key, settings.service_keys) and path.name[0] != ".":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    values = [read_secret(path) for path in (keys / "airflow_password", settings.api_key)]
    assert len(set(values)) == 2
    assert all(len(value) >= 32 for value in values)
    assert json.loads((keys / "airflow_users.json").read_text())["admin"] == values[0]


def accepted(settings: Settings, raw: str) -> bool:
    found = KeyCache(settings.service_keys).caller(raw.encode())
    return found is not None and (found.name, found.scopes) == ("local", set(SCOPES))


def test_the_service_lets_the_local_key_in(settings: Settings) -> None:
    make_secrets(settings)
    raw = read_secret(settings.api_key)
    assert accepted(settings, raw)
    # Files that other users can read hold no key.
    assert raw not in settings.service_keys.read_text()


def test_a_key_of_the_earlier_release_goes_on(settings: Settings) -> None:
    settings.api_key.parent.mkdir(parents=True)
    settings.api_key.write_text("made-by-the-earlier-release\n")
    make_secrets(settings)
    assert read_secret(settings.api_key) == "made-by-the-earlier-release"
    assert accepted(settings, "made-by-the-earlier-release")
    make_secrets(settings)
    assert len(list_keys(settings.service_keys)) == 1


def test_a_lost_or_replaced_key_file_ends_the_old_key(settings: Settings) -> None:
    make_secrets(settings)
    lost = read_secret(settings.api_key)
    settings.api_key.unlink()
    make_secrets(settings)
    made = read_secret(settings.api_key)
    assert accepted(settings, made)
    assert not accepted(settings, lost)


def test_a_half_made_pair_of_keys_is_completed(settings: Settings) -> None:
    make_secrets(settings)
    public = settings.verify_key.read_bytes()
    settings.verify_key.unlink()
    make_secrets(settings)
    assert settings.verify_key.read_bytes() == public


def test_everything_listens_on_loopback_and_no_secret_is_an_argument(settings: Settings) -> None:
    make_secrets(settings)
    environment = airflow_environment(settings)
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    secrets = {text for path in (settings.home / "keys").iterdir() if (text := read_secret(path))}
    for component in components(settings):
        assert not secrets & set(component.command)
        assert component.runs_once or component.probe.startswith("http://127.0.0.1:")
