"""A model that stands encrypted in its version."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts import signed_bundle, versions, work_folder
from bc_pipeline.artifacts.signed_bundle import ESTIMATOR, MODEL, VersionFiles, required_key_id
from bc_pipeline.artifacts.store import Store
from bc_pipeline.encryption import Cipher, is_ciphertext
from bc_pipeline.errors import ArtifactCorrupt, DecryptionFailed
from bc_pipeline.settings import Settings

CIPHER = Cipher(bytes(range(32)))
CONTENT = {MODEL: b"graph", ESTIMATOR: b"estimator", "card.md": b"# Card"}
Make = Callable[..., VersionFiles]


@pytest.fixture
def make(releases: Any, store: Store, settings: Settings) -> Make:
    """Publish a version from the work folder."""

    def make(version: str, cipher: Cipher | None = CIPHER) -> VersionFiles:
        draft = releases.draft(version)
        work_folder.create(store, draft, CONTENT, settings.signing_key, cipher)
        found = work_folder.open_challenger(store, version, settings.verify_key, cipher)
        assert {name: found.read(name) for name in CONTENT} == CONTENT
        versions.publish(store, draft, found.folder, settings.signing_key)
        return versions.open_stored(store, version, settings.verify_key, cipher)

    return make


def test_only_the_model_is_encrypted(make: Make) -> None:
    files = make("v")
    assert {name: files.read(name) for name in CONTENT} == CONTENT
    assert {name for name in CONTENT if is_ciphertext((files.folder / name).read_bytes())} == {
        MODEL,
        ESTIMATOR,
    }
    assert files.encrypted
    assert required_key_id(files.folder) == CIPHER.key_id


def test_the_same_version_again_has_the_same_bytes(make: Make, store: Store) -> None:
    first = {name: make("v").read_stored(name) for name in CONTENT}
    shutil.rmtree(store.version("v"))
    assert {name: make("v").read_stored(name) for name in CONTENT} == first
    assert make("w").read_stored(MODEL) != first[MODEL]


def test_signature_and_digests_are_checked_without_the_key(
    make: Make, store: Store, settings: Settings
) -> None:
    make("v")
    files = versions.open_stored(store, "v", settings.verify_key)
    files.verify_all()
    assert files.read("card.md") == b"# Card"
    assert files.encrypted
    path = files.folder / MODEL
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx differs"):
        files.verify_all()
    with pytest.raises(ArtifactCorrupt):
        versions.open_stored(store, "v", settings.verify_key, CIPHER).read(MODEL)


@pytest.mark.parametrize(
    ("cipher", "said"), [(None, "no key"), (Cipher(bytes(32)), Cipher(bytes(32)).key_id)]
)
def test_the_required_key_is_named(
    make: Make, store: Store, settings: Settings, cipher: Cipher | None, said: str
) -> None:
    make("v")
    files = versions.open_stored(store, "v", settings.verify_key, cipher)
    for name in (MODEL, ESTIMATOR):
        with pytest.raises(DecryptionFailed, match=said) as caught:
            files.read(name)
        assert caught.value.key_id == CIPHER.key_id
        assert "BC_ARTIFACT_KEY_FILE" in caught.value.remedy + caught.value.message


def test_plain_versions_are_readable_with_a_key(make: Make) -> None:
    plain = make("old", None)
    assert not plain.encrypted
    assert required_key_id(plain.folder) is None
    assert make("new").read(MODEL) == CONTENT[MODEL]
    reopened = VersionFiles(plain.folder, plain.manifest, plain.manifest_sha256, CIPHER)
    assert reopened.read(MODEL) == CONTENT[MODEL]


def test_a_renamed_version_does_not_open(make: Make, store: Store, settings: Settings) -> None:
    files = make("v")
    shutil.copytree(files.folder, store.version("w"))
    with pytest.raises(ArtifactCorrupt, match="holds wdbc v"):
        versions.open_stored(store, "w", settings.verify_key, CIPHER)
    # Not even for who can sign.
    renamed = msgspec.structs.replace(files.manifest, version="w")
    signed_bundle.sign_bundle(renamed, store.version("w"), settings.signing_key)
    with pytest.raises(DecryptionFailed, match="belong to another"):
        versions.open_stored(store, "w", settings.verify_key, CIPHER).read(MODEL)


def test_an_encrypted_file_does_not_decrypt_under_another_name(
    make: Make, settings: Settings
) -> None:
    one, two = make("v"), make("w")
    for source, name in ((two.folder / MODEL, MODEL), (one.folder / ESTIMATOR, MODEL)):
        shutil.copyfile(source, one.folder / name)
        signed_bundle.sign_bundle(one.manifest, one.folder, settings.signing_key)
        files = signed_bundle.open_version(one.folder, settings.verify_key, CIPHER)
        with pytest.raises(DecryptionFailed, match="belong to another"):
            files.read(name)


def test_a_work_folder_never_holds_the_plain_model(
    make: Make, releases: Any, store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    real = Path.write_bytes

    def write_bytes(path: Path, data: bytes) -> int:
        written.append(data)
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    make("v")
    assert CONTENT["card.md"] in written
    assert not any(CONTENT[name] in data for data in written for name in (MODEL, ESTIMATOR))
