from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bc_pipeline.deployment.cluster import (
    SHARED_OPTIONS,
    environment_defects,
    file_defects,
    prepare,
)
from bc_pipeline.deployment.shared_volume import Owner, change_owner, create_folders, folders
from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings


def by_command(path: Path) -> dict[str, str]:
    return {f"{option}_CMD": f"cat {path}" for option in SHARED_OPTIONS}


def test_options_are_taken_from_variables_commands_backends_or_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("value")
    for environment in (
        dict.fromkeys(SHARED_OPTIONS, "value"),
        by_command(secret),
        {f"{option}_SECRET": "name" for option in SHARED_OPTIONS},
        {"AIRFLOW_CONFIG": "/etc/airflow.cfg"},
    ):
        assert list(environment_defects(environment)) == []


def test_every_missing_option_is_named() -> None:
    said = list(environment_defects({}))
    assert len(said) == len(SHARED_OPTIONS)
    assert all(option in line for option, line in zip(SHARED_OPTIONS, said, strict=True))


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "cannot be read"), (b"\n", "is empty"), (b"value\n", "ends with")],
)
def test_a_secret_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    said = list(environment_defects(by_command(secret)))
    assert len(said) == len(SHARED_OPTIONS)
    assert all(why in line and str(secret) in line for line in said)


def test_files_are_looked_at_before_anything_is_done(tmp_path: Path) -> None:
    wrong = tmp_path / "connections.txt"
    wrong.write_text("hospital=http://example.org")
    settings = Settings(airflow_password_file=tmp_path / "none", project_dir=tmp_path)
    said = " ".join(file_defects(settings, wrong, tmp_path / "lesser"))
    for word in ("folder dags", "folder plugins", "BC_AIRFLOW_PASSWORD_FILE", ".yaml", "lesser"):
        assert word in said
    assert list(file_defects(Settings(), None, None)) == []
    (same,) = file_defects(Settings(airflow_user="service"), None, wrong)
    assert "BC_AIRFLOW_USER is service" in same


def test_a_deployment_that_is_not_as_needed_is_not_touched(settings: Settings) -> None:
    messages: list[str] = []
    with pytest.raises(ConfigError, match="FERNET_KEY is not set"):
        prepare(
            settings,
            messages.append,
            owner=Owner(0, 0),
            connections=None,
            service_password=None,
            seconds=0,
        )
    assert not any("database" in line for line in messages)


def test_folders_are_for_the_group_whatever_the_umask(settings: Settings) -> None:
    before = os.umask(0o077)
    try:
        create_folders(settings)
        create_folders(settings)
    finally:
        os.umask(before)
    made = [settings.home, *folders(settings), settings.home / "models" / "wdbc"]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in made} == {0o2775}
    assert stat.S_IMODE((settings.home / "keys").stat().st_mode) == 0o2750


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away: run the tests as root")
def test_the_volume_is_given_to_its_owner_but_not_the_services_records(settings: Settings) -> None:
    create_folders(settings)
    records, link = settings.home / "records" / "wdbc", settings.home / "link"
    records.mkdir(parents=True)
    link.symlink_to("/etc/hostname")
    before = Path("/etc/hostname").stat().st_uid
    owner = Owner(50000, 0)
    assert change_owner(settings, owner) > 0
    assert change_owner(settings, owner) == 0
    assert (link.lstat().st_uid, Path("/etc/hostname").stat().st_uid) == (50000, before)
    assert records.stat().st_uid == 0
    for folder in folders(settings):
        found = folder.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (*owner, 0o2775)


@pytest.mark.parametrize("text", ["airflow:0", "50000", "50000:", ":0", "-1:0", "1:2:3"])
def test_an_owner_is_two_numbers(text: str) -> None:
    assert Owner.parse("50000:0") == (50000, 0)
    with pytest.raises(ConfigError, match="owner"):
        Owner.parse(text)
