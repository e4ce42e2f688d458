from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts import signed_bundle, signing
from bc_pipeline.artifacts.manifest import FileEntry
from bc_pipeline.errors import ArtifactCorrupt, SignatureInvalid, VersionNotFound
from bc_pipeline.settings import Settings


@pytest.fixture
def folder(tmp_path: Path, releases: Any, settings: Settings) -> Path:
    folder = tmp_path / "version"
    (folder / "figures").mkdir(parents=True)
    (folder / signed_bundle.MODEL).write_bytes(b"graph")
    (folder / "figures" / "roc.png").write_bytes(b"picture")
    signed_bundle.sign_bundle(releases.draft("v"), folder, settings.signing_key)
    return folder


def _sign(folder: Path, manifest: bytes, settings: Settings) -> None:
    (folder / signed_bundle.MANIFEST).write_bytes(manifest)
    (folder / signed_bundle.SIGNATURE).write_bytes(signing.sign(manifest, settings.signing_key))


def test_bytes_are_checked_when_they_are_read(folder: Path, settings: Settings) -> None:
    files = signed_bundle.open_version(folder, settings.verify_key)
    assert files.read(signed_bundle.MODEL) == b"graph"
    for content in (b"grapH", b"graph!", b"grap", b""):
        (folder / signed_bundle.MODEL).write_bytes(content)
        with pytest.raises(ArtifactCorrupt, match="not the file that was signed"):
            files.read(signed_bundle.MODEL)
    (folder / signed_bundle.MODEL).unlink()
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        files.read(signed_bundle.MODEL)


@pytest.mark.parametrize(
    "name", ["other", "../version/model.onnx", "/etc/passwd", "", "figures", "manifest.json"]
)
def test_only_listed_files_are_read(folder: Path, settings: Settings, name: str) -> None:
    files = signed_bundle.open_version(folder, settings.verify_key)
    with pytest.raises(ArtifactCorrupt, match="not a file of version"):
        files.read(name)


def test_every_damaged_file_is_listed(folder: Path, settings: Settings) -> None:
    files = signed_bundle.open_version(folder, settings.verify_key)
    (folder / signed_bundle.MODEL).write_bytes(b"other")
    (folder / "figures" / "roc.png").unlink()
    (folder / "figures" / "extra.png").write_bytes(b"")
    (folder / "link").symlink_to(folder / "figures")
    with pytest.raises(ArtifactCorrupt) as caught:
        files.verify_all()
    for part in (
        "model.onnx differs",
        "figures/roc.png is missing",
        "figures/extra.png was added",
        "link was added",
    ):
        assert part in caught.value.message


@pytest.mark.parametrize(
    "name", ["../model.onnx", "/etc/passwd", "a/../b", "./a", "a//b", "a\\b", "manifest.sig", ""]
)
def test_a_signed_manifest_cannot_name_files_outside_its_folder(
    folder: Path, settings: Settings, releases: Any, name: str
) -> None:
    manifest = msgspec.structs.replace(releases.draft("v"), files={name: FileEntry("0" * 64, 0)})
    _sign(folder, msgspec.json.encode(manifest), settings)
    with pytest.raises(ArtifactCorrupt, match="outside its folder"):
        signed_bundle.open_version(folder, settings.verify_key)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b'{"format": 4}', "format 4; this code reads up to format 3"),
        (b'{"version": "v"}', "cannot be read"),
        (b"[]", "cannot be read"),
        (b"{", "cannot be read"),
        (b'{"format": 1}', "not a valid manifest"),
    ],
)
def test_a_signed_manifest_with_other_fields_is_refused(
    folder: Path, settings: Settings, manifest: bytes, message: str
) -> None:
    _sign(folder, manifest, settings)
    with pytest.raises(ArtifactCorrupt, match=message):
        signed_bundle.open_version(folder, settings.verify_key)


def test_an_oversized_manifest_is_refused(folder: Path, settings: Settings) -> None:
    with (folder / signed_bundle.MANIFEST).open("r+b") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(ArtifactCorrupt, match="too large"):
        signed_bundle.open_version(folder, settings.verify_key)


def test_a_missing_folder_manifest_or_signature_is_an_error(
    folder: Path, settings: Settings
) -> None:
    with pytest.raises(VersionNotFound):
        signed_bundle.open_version(folder / "none", settings.verify_key)
    (folder / signed_bundle.SIGNATURE).unlink()
    with pytest.raises(SignatureInvalid, match="not signed"):
        signed_bundle.open_version(folder, settings.verify_key)
    (folder / signed_bundle.MANIFEST).unlink()
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        signed_bundle.open_version(folder, settings.verify_key)
