from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts import signed_bundle, signing, versions
from bc_pipeline.artifacts.files import make_directory
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import (
    ArtifactCorrupt,
    SignatureInvalid,
    VersionConflict,
    VersionNotFound,
)
from bc_pipeline.settings import Settings

NAME = "20261115T000000Z-logistic-0123456789"
Publish = Callable[..., Manifest]


@pytest.fixture
def publish(releases: Any, store: Store, settings: Settings) -> Publish:
    """Publish a version of two small files; `changes` override fields of its manifest."""

    def publish(name: str = NAME, model: bytes = b"graph", **changes: Any) -> Manifest:
        folder = make_directory(store.work / name)
        (folder / signed_bundle.MODEL).write_bytes(model)
        (make_directory(folder / signed_bundle.FIGURES) / "roc.png").write_bytes(b"picture")
        draft = msgspec.structs.replace(releases.draft(name), **changes)
        return versions.publish(store, draft, folder, settings.signing_key)

    return publish


# Names


def test_a_name_contains_as_of_and_candidate() -> None:
    name = versions.version_name("2026-11-15T00:00:00Z", "svm_rbf", dataset="d", params={"C": 1.0})
    assert name.startswith("20261115T000000Z-svm_rbf-")
    assert len(name.rsplit("-", 1)[1]) == 10


def test_a_name_depends_on_its_inputs_alone() -> None:
    def name(as_of: str = "2026-11-15T00:00:00Z", **inputs: Any) -> str:
        return versions.version_name(as_of, "logistic", **({"dataset": "d", "seed": 1} | inputs))

    assert name() == versions.version_name("2026-11-15", "logistic", seed=1, dataset="d")
    others = [name(seed=2), name(dataset="e"), name(code="1"), name("2026-11-15T00:00:01Z")]
    assert len({name(), *others}) == 5


# Publishing


def test_a_published_version_opens_and_verifies(
    publish: Publish, store: Store, settings: Settings
) -> None:
    manifest = publish()
    files = versions.open_stored(store, NAME, settings.verify_key)
    files.verify_all()
    assert files.manifest == manifest
    assert set(manifest.files) == {"model.onnx", "figures/roc.png"}
    assert files.read("figures/roc.png") == b"picture"
    assert versions.list_versions(store) == [NAME]
    assert not (store.work / NAME).exists()


def test_the_same_run_again_gives_the_stored_version(
    publish: Publish, store: Store, releases: Any
) -> None:
    first = publish()
    lineage = msgspec.structs.replace(first.lineage, run_id="another run")
    # A run that is not bit-for-bit reproducible must not replace what was judged.
    again = publish(model=b"another graph", lineage=lineage)
    assert again == first
    assert not (store.work / NAME).exists()


def test_another_outcome_under_the_same_name_is_a_conflict(publish: Publish, store: Store) -> None:
    first = publish()
    lineage = msgspec.structs.replace(first.lineage, dataset="other")
    with pytest.raises(VersionConflict, match="threshold, dataset") as caught:
        publish(threshold=0.9, lineage=lineage)
    assert "threshold=0.9" in caught.value.expected
    assert "threshold=0.4" in caught.value.found
    assert (store.version(NAME) / signed_bundle.MODEL).read_bytes() == b"graph"


def test_a_damaged_version_is_not_accepted_as_the_same_run(publish: Publish, store: Store) -> None:
    publish()
    (store.version(NAME) / signed_bundle.MODEL).write_bytes(b"damage")
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx differs"):
        publish()


def test_leftovers_of_a_killed_attempt_are_not_published(publish: Publish, store: Store) -> None:
    folder = make_directory(store.work / NAME)
    (folder / ".manifest.json.x1").write_bytes(b"half")
    (folder / signed_bundle.SIGNATURE).write_bytes(b"old")
    (folder / signed_bundle.MANIFEST).write_bytes(b"old")
    make_directory(folder / ".figures.x2" / "deep")
    assert set(publish().files) == {"model.onnx", "figures/roc.png"}


def test_two_processes_may_publish_the_same_version(
    publish: Publish, store: Store, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    first = publish()
    # The other process was not done when this one looked.
    seen = iter([False])
    real = Path.exists
    monkeypatch.setattr(
        Path,
        "exists",
        lambda path: next(seen, True) if path == store.version(NAME) else real(path),
    )
    assert publish() == first


def test_signing_again_after_a_change_succeeds(
    releases: Any, settings: Settings, tmp_path: Path
) -> None:
    folder = make_directory(tmp_path / "draft")
    (folder / signed_bundle.MODEL).write_bytes(b"1")
    signed_bundle.sign_bundle(releases.draft(NAME), folder, settings.signing_key)
    (folder / signed_bundle.CARD).write_bytes(b"2")
    signed_bundle.sign_bundle(releases.draft(NAME), folder, settings.signing_key)
    files = signed_bundle.open_version(folder, settings.verify_key)
    files.verify_all()
    assert set(files.manifest.files) == {"model.onnx", "card.md"}


# Opening


@pytest.mark.parametrize("name", ["20200101T000000Z-x-0", "", ".", "..", "../x", "/etc", ".hid"])
def test_a_missing_version_is_not_found(
    store: Store, settings: Settings, releases: Any, name: str
) -> None:
    with pytest.raises(VersionNotFound) as caught:
        versions.open_stored(store, name, settings.verify_key)
    assert caught.value.version == name


def test_a_version_under_another_name_is_refused(
    publish: Publish, store: Store, settings: Settings
) -> None:
    publish()
    store.version(NAME).rename(store.version("other"))
    with pytest.raises(ArtifactCorrupt, match=NAME):
        versions.open_stored(store, "other", settings.verify_key)


def test_the_champion_must_have_the_manifest_that_was_released(
    publish: Publish, store: Store, settings: Settings, releases: Any
) -> None:
    publish()
    releases.promote(NAME)
    assert versions.open_champion(store, settings.verify_key).manifest.version == NAME
    releases.promote(NAME, manifest_sha256="0" * 64)
    with pytest.raises(ArtifactCorrupt, match="not the one that was released"):
        versions.open_champion(store, settings.verify_key)


def test_the_wrong_key_opens_nothing(
    publish: Publish, store: Store, settings: Settings, tmp_path: Path
) -> None:
    publish()
    signing.make_keys(tmp_path / "s.pem", tmp_path / "v.pem")
    with pytest.raises(SignatureInvalid):
        versions.open_stored(store, NAME, tmp_path / "v.pem")
