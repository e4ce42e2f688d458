"""Rotation of encryption keys: what is encrypted stays readable, by the old file never the new."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts import versions, work_folder
from bc_pipeline.artifacts.signed_bundle import MODEL
from bc_pipeline.encryption import load_cipher
from bc_pipeline.errors import ConfigError, DecryptionFailed
from bc_pipeline.prediction_log.entry import LogEntry, new_id
from bc_pipeline.prediction_log.frames import EncryptedEntry, encrypt, private_fields
from bc_pipeline.settings import Settings
from bc_pipeline.stack.encryption_keys import rotate_encryption_key
from tests.unit.commands import run_command


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(bytes(range(32)).hex() + "\n")
    path.chmod(0o640)
    return path


def test_models_of_the_former_key_are_read_and_new_ones_have_the_new_key(
    releases: Any, key: Path
) -> None:
    settings = Settings(artifact_key_file=key)
    store = releases.store

    def publish(version: str) -> None:
        draft, cipher = releases.draft(version), settings.artifact_cipher()
        work_folder.create(store, draft, {MODEL: b"graph"}, settings.signing_key, cipher)
        folder = store.work / version
        versions.publish(store, draft, folder, settings.signing_key)

    def read(version: str) -> bytes:
        cipher = settings.artifact_cipher()
        return versions.open_stored(store, version, settings.verify_key, cipher).read(MODEL)

    publish("a")
    before = settings.artifact_cipher()
    rotation = rotate_encryption_key(settings, "artifacts")
    assert rotation.replaces == before.key_id
    assert set(rotation.decrypting) == {rotation.key_id, rotation.replaces}
    assert stat.S_IMODE(key.stat().st_mode) == 0o640
    publish("b")
    assert (read("a"), read("b")) == (b"graph", b"graph")
    with pytest.raises(DecryptionFailed, match=rotation.key_id):
        versions.open_stored(store, "b", settings.verify_key, before).read(MODEL)


def test_predictions_of_the_former_key_are_read(key: Path, tmp_path: Path) -> None:
    entry = LogEntry(
        id=new_id(),
        at=1.5,
        version="v",
        manifest_sha256="d",
        probability=0.5,
        positive=False,
        latency=0.001,
        caller="c",
        route="/",
        values=bytes(240),
        sample_id="s",
    )
    settings = Settings(records_key_file=key)
    former = load_cipher(key, "BC_RECORDS_KEY_FILE")
    old = encrypt(entry, former)
    assert isinstance(old, EncryptedEntry)
    rotation = rotate_encryption_key(settings, "records", tmp_path / "new")
    assert not rotation.deployed
    assert stat.S_IMODE(rotation.file.stat().st_mode) == 0o600
    assert load_cipher(key, "BC_RECORDS_KEY_FILE").key_ids == former.key_ids
    both = load_cipher(rotation.file, "BC_RECORDS_KEY_FILE")
    assert both.key_id == rotation.key_id
    assert private_fields(old, both) == private_fields(old, former)
    with pytest.raises(DecryptionFailed):
        private_fields(encrypt(entry, both), former)


def test_what_is_not_set_cannot_be_rotated(settings: Settings, key: Path) -> None:
    for purpose, setting in (
        ("artifacts", "BC_ARTIFACT_KEY_FILE"),
        ("records", "BC_RECORDS_KEY_FILE"),
    ):
        with pytest.raises(ConfigError, match="is not set") as caught:
            rotate_encryption_key(settings, purpose)
        assert caught.value.setting == setting
    with pytest.raises(ConfigError, match="exists already"):
        rotate_encryption_key(Settings(records_key_file=key), "records", key)


def test_the_command_shows_no_key(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, key: Path
) -> None:
    monkeypatch.setenv("BC_RECORDS_KEY_FILE", str(key))
    shown = run_command("keys", "rotate-encryption", "records").output
    for line in key.read_text().split():
        assert line not in shown
