"""Rotation of the signing key: nothing stops being verifiable, at any point of it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts import signing, versions
from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.signed_document import read_signed, write_signed
from bc_pipeline.artifacts.work_folder import open_challenger, open_evaluated
from bc_pipeline.clock import parse_time
from bc_pipeline.errors import ArtifactCorrupt, AuditBroken, ConfigError, SignatureInvalid
from bc_pipeline.promotion import audit
from bc_pipeline.settings import Settings
from bc_pipeline.stack.distrust import distrust_key
from bc_pipeline.stack.signing_keys import list_keys, retire_key, rotate_signing_key
from tests.unit.promotion.conftest import Challengers


@pytest.fixture
def challengers(releases: Any) -> Challengers:
    made = Challengers(releases)
    made.crown("a")
    write_signed(made.store, made.store.batch_document("x"), b"{}")
    return made


def require_all_verify(challengers: Challengers) -> None:
    store = challengers.store
    for version in versions.list_versions(store):
        versions.open_verified(store, version, store.verify_key)
    versions.open_champion(store, store.verify_key)
    audit.verify(store)
    assert read_signed(store, store.batch_document("x")) == b"{}"


def test_both_keys_are_trusted_until_the_former_one_is_retired(
    challengers: Challengers, settings: Settings
) -> None:
    former = signing.key_id(settings.signing_key)
    rotation = rotate_signing_key(settings, actor="cli:me")
    assert (rotation.replaces, rotation.deployed) == (former, True)
    assert rotation.trusted == (rotation.key_id, former)
    require_all_verify(challengers)
    challengers.publish("b")
    assert challengers.promote("b", at=None).changed
    require_all_verify(challengers)
    # The first version and the batch; second version and registry have the new key already.
    assert retire_key(settings, former, actor="cli:me") == 2
    assert list(signing.load_public_keys(settings.verify_key)) == [rotation.key_id]
    require_all_verify(challengers)
    assert challengers.rollback("a").changed
    events = [line.event for line in read_audit_log(challengers.store).lines]
    assert [event for event in events if event.startswith("key")] == ["key_rotated", "key_retired"]


def test_a_version_of_the_former_key_may_be_published_again(
    challengers: Challengers, settings: Settings
) -> None:
    stored = challengers.publish("b")
    rotate_signing_key(settings, actor="a")
    assert challengers.publish("b") == stored


def test_a_rotation_repeats(challengers: Challengers, settings: Settings) -> None:
    ids = [rotate_signing_key(settings, actor="a").key_id for _ in range(3)]
    assert len(set(ids)) == 3
    assert len(signing.load_public_keys(settings.verify_key)) == 4
    require_all_verify(challengers)
    for key_id in list(signing.load_public_keys(settings.verify_key))[1:]:
        retire_key(settings, key_id, actor="a")
    require_all_verify(challengers)


def test_the_files_keep_their_modes(challengers: Challengers, settings: Settings) -> None:
    settings.signing_key.chmod(0o444)
    rotate_signing_key(settings, actor="a")
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (settings.signing_key, settings.verify_key)]
    assert modes == [0o444, 0o644]


def test_secrets_of_a_deployment_are_written_to_a_folder(
    challengers: Challengers, settings: Settings, tmp_path: Path
) -> None:
    before = [settings.signing_key.read_bytes(), settings.verify_key.read_bytes()]
    folder = tmp_path / "new"
    rotation = rotate_signing_key(settings, actor="a", out=folder)
    assert [settings.signing_key.read_bytes(), settings.verify_key.read_bytes()] == before
    assert not rotation.deployed
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    private, public = folder / "signing_key", folder / "verify_key"
    assert rotation.files == (private, public)
    # Readers first: with the new public keys, everything of now verifies.
    readers = Settings(verify_key_file=public)
    store = type(challengers.store).of(readers, "wdbc")
    versions.open_champion(store, public)
    # Then the side that signs.
    deployed = Settings(verify_key_file=public, signing_key_file=private)
    store = type(challengers.store).of(deployed, "wdbc")
    line = audit.append(
        store, "verdict", version="b", generation=1, actor="a", at="2026-11-16T00:00:00Z"
    )
    assert line.key_id == rotation.key_id
    assert read_audit_log(store).lines[-2].event == "key_rotated"
    with pytest.raises(AuditBroken, match=rotation.key_id):
        audit.verify(challengers.store)
    with pytest.raises(ConfigError, match="cannot be made"):
        rotate_signing_key(deployed, actor="a", out=folder)


def test_a_file_that_cannot_be_written_names_the_way_out(
    challengers: Challengers, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("bc_pipeline.artifacts.key_files.write_atomic", refuse)
    with pytest.raises(ConfigError, match="--out FOLDER") as caught:
        rotate_signing_key(settings, actor="a")
    assert caught.value.setting == "BC_VERIFY_KEY_FILE"
    require_all_verify(challengers)


@pytest.mark.parametrize("evaluated", [True, False])
def test_an_unpublished_challenger_is_signed_again(
    challengers: Challengers, settings: Settings, evaluated: bool
) -> None:
    store = challengers.store
    challengers.leave("w", evaluated=evaluated)
    former = rotate_signing_key(settings, actor="a").replaces
    retire_key(settings, former, actor="a")
    opened = open_evaluated if evaluated else open_challenger
    opened(store, "w", settings.verify_key).verify_all()


def test_a_damaged_challenger_stops_the_retirement(
    challengers: Challengers, settings: Settings
) -> None:
    challengers.leave("w")
    (challengers.store.work / "w" / "card.md").write_text("changed")
    former = rotate_signing_key(settings, actor="a").replaces
    with pytest.raises(ArtifactCorrupt, match=r"card\.md"):
        retire_key(settings, former, actor="a")
    assert former in signing.load_public_keys(settings.verify_key)


def test_a_damaged_version_stops_the_retirement(
    challengers: Challengers, settings: Settings
) -> None:
    former = rotate_signing_key(settings, actor="a").replaces
    challengers.store.registry.write_bytes(b"{}")
    with pytest.raises(SignatureInvalid):
        retire_key(settings, former, actor="a")
    assert former in signing.load_public_keys(settings.verify_key)


def test_a_distrusted_key_is_not_retired(challengers: Challengers, settings: Settings) -> None:
    former = rotate_signing_key(settings, actor="a").replaces
    since = parse_time("2026-11-20T00:00:00Z")
    distrust_key(settings, former, since, reason="r", actor="a")
    with pytest.raises(ConfigError, match="is distrusted"):
        retire_key(settings, former, actor="a")
    states = {key["key_id"]: key for key in list_keys(settings)}
    assert states[former]["distrusted_since"] == "2026-11-20T00:00:00Z"
    assert not states[former]["signs"]
    assert states[signing.key_id(settings.signing_key)]["signs"]
