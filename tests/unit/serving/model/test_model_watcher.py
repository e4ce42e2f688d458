from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from bc_pipeline import clock
from bc_pipeline.artifacts import signed_bundle, signing
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import read_registry, write_registry
from bc_pipeline.artifacts.signed_bundle import COEFFICIENTS, MODEL, encrypt_if_model
from bc_pipeline.encryption import load_cipher
from bc_pipeline.serving.model import loaded_model, model_watcher
from bc_pipeline.serving.model.loaded_model import load_folder
from bc_pipeline.serving.model.model_watcher import ModelRefusal, ModelWatcher
from bc_pipeline.settings import Settings


@pytest.fixture
def model(settings: Settings) -> ModelWatcher:
    return ModelWatcher(settings)


def serving(model: ModelWatcher) -> str | None:
    model.refresh()
    return model.current.version if model.current else None


def test_without_a_registry_there_is_no_model_and_no_refusal(model: ModelWatcher) -> None:
    assert (model.current, model.checked_at, model.last_refusal) == (None, None, None)
    assert (model.refusals, model.refusals_by_code) == (0, {})
    for _ in range(3):
        assert serving(model) is None
        assert (model.refusals, model.last_refusal) == (0, None)
    assert model.checked_at is not None


def test_a_promoted_version_is_loaded(model: ModelWatcher, releases: Any, fitted: Any) -> None:
    releases.publish("v1", fitted[0])
    assert serving(model) is None
    releases.promote("v1")
    assert serving(model) == "v1"
    assert model.current is not None
    assert (model.current.generation, model.current.source) == (1, "registry")


def test_replacing_the_model_changes_one_reference(
    model: ModelWatcher, releases: Any, fitted: Any, reference: Any
) -> None:
    for name, fit in zip(("v1", "v2"), fitted, strict=False):
        releases.publish(name, fit)
    releases.promote("v1")
    serving(model)
    previous = model.current
    releases.promote("v2")
    assert serving(model) == "v2"
    assert previous is not None
    # A request with the old reference still gets the old model's answers.
    assert previous.version == "v1"
    np.testing.assert_allclose(
        previous.predictor.positive(reference[0]), fitted[0].probability, rtol=0, atol=1e-12
    )
    assert model.current is not None
    np.testing.assert_allclose(
        model.current.predictor.positive(reference[0]), fitted[1].probability, rtol=0, atol=1e-12
    )


def test_a_new_generation_of_the_same_version_loads_nothing(
    model: ModelWatcher, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    serving(model)
    before = model.current
    releases.promote("v1")
    serving(model)
    assert before is not None
    assert model.current is not None
    assert model.current.generation == 2
    assert model.current.predictor is before.predictor


def test_going_back_to_the_current_version_resets_the_refusal(
    model: ModelWatcher, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    assert serving(model) == "v1"
    assert model.last_refusal is None
    releases.promote("v1", manifest_sha256="0" * 64)
    assert serving(model) == "v1"
    assert model.last_refusal is not None
    releases.promote("v1")
    assert serving(model) == "v1"
    assert model.last_refusal is None
    assert model.current is not None
    assert model.current.generation == 3


def corrupt_model(releases: Any) -> None:
    path = releases.store.version("v2") / MODEL
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate_model(releases: Any) -> None:
    path = releases.store.version("v2") / MODEL
    path.write_bytes(path.read_bytes()[:-10])


def drop_signature(releases: Any) -> None:
    (releases.store.version("v2") / signed_bundle.SIGNATURE).unlink()


def change_manifest(releases: Any) -> None:
    path = releases.store.version("v2") / signed_bundle.MANIFEST
    path.write_text(path.read_text().replace('"threshold": 0.4', '"threshold": 0.9'))


def truncate_manifest(releases: Any) -> None:
    path = releases.store.version("v2") / signed_bundle.MANIFEST
    path.write_bytes(path.read_bytes()[:-10])


def drop_manifest(releases: Any) -> None:
    (releases.store.version("v2") / signed_bundle.MANIFEST).unlink()


def drop_version(releases: Any) -> None:
    shutil.rmtree(releases.store.version("v2"))


def sign_with_another_key(releases: Any) -> None:
    other = releases.settings.home / "other"
    signing.make_keys(other / "signing.pem", other / "verify.pem")
    manifest = (releases.store.version("v2") / signed_bundle.MANIFEST).read_bytes()
    signature = signing.sign(manifest, other / "signing.pem")
    (releases.store.version("v2") / signed_bundle.SIGNATURE).write_bytes(signature)


def replace_by_another_version(releases: Any) -> None:
    """Replace the files of the released version by those of another signed one."""
    shutil.rmtree(releases.store.version("v2"))
    shutil.copytree(releases.store.version("v1"), releases.store.version("v2"))


def restore_an_older_registry(releases: Any) -> None:
    registry = read_registry(releases.store)
    write_registry(releases.store, msgspec.structs.replace(registry, generation=1))


def change_the_served_generation(releases: Any) -> None:
    registry = read_registry(releases.store)
    write_registry(releases.store, msgspec.structs.replace(registry, generation=2))


def truncate_registry(releases: Any) -> None:
    releases.store.registry.write_bytes(releases.store.registry.read_bytes()[:-10])


def rename_registry(releases: Any) -> None:
    registry = read_registry(releases.store)
    write_registry(releases.store, msgspec.structs.replace(registry, problem="other"))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (corrupt_model, "artifact-corrupt"),
        (truncate_model, "artifact-corrupt"),
        (drop_signature, "signature-invalid"),
        (change_manifest, "signature-invalid"),
        (truncate_manifest, "signature-invalid"),
        (sign_with_another_key, "signature-invalid"),
        (drop_manifest, "artifact-corrupt"),
        (drop_version, "version-not-found"),
        (replace_by_another_version, "artifact-corrupt"),
        (restore_an_older_registry, "generation-replayed"),
        (change_the_served_generation, "generation-replayed"),
        (truncate_registry, "signature-invalid"),
        (rename_registry, "artifact-corrupt"),
    ],
)
def test_damage_is_refused_once_and_the_old_model_goes_on_answering(
    model: ModelWatcher, releases: Any, fitted: Any, damage: Callable[[Any], None], code: str
) -> None:
    releases.publish("v1", fitted[0])
    releases.publish("v2", fitted[1])
    # Twice, so that there is an earlier generation than the one that is served.
    releases.promote("v1")
    serving(model)
    releases.promote("v1")
    serving(model)
    releases.promote("v2")
    damage(releases)
    with capture_logs() as logs:
        for _ in range(3):
            assert serving(model) == "v1"
    assert (model.refusals, model.refusals_by_code) == (1, {code: 1})
    assert model.last_refusal is not None
    assert model.last_refusal.version in ("v2", None)
    assert model.last_refusal.code == code
    assert str(releases.settings.home) not in model.last_refusal.reason
    assert [(entry["event"], entry["code"]) for entry in logs] == [("model_refused", code)]


@pytest.fixture
def key(settings: Settings, tmp_path: Path) -> Path:
    """The file of a key for artifacts."""
    path = tmp_path / "artifact_key"
    path.write_text("ab" * 32 + "\n")
    return path


def publish_encrypted(releases: Any, name: str, fit: Any, key: Path) -> None:
    cipher = load_cipher(key, "BC_ARTIFACT_KEY_FILE")
    graph = encrypt_if_model(name, MODEL, fit.graph, cipher)
    coefficients = encrypt_if_model(name, COEFFICIENTS, fit.coefficients, cipher)
    releases.publish(name, replace(fit, graph=graph, coefficients=coefficients))


def test_encrypted_and_plain_versions_are_both_served(
    releases: Any, fitted: Any, settings: Settings, key: Path, reference: Any
) -> None:
    model = ModelWatcher(settings.model_copy(update={"artifact_key_file": key}))
    releases.publish("v1", fitted[0])
    publish_encrypted(releases, "v2", fitted[1], key)
    for name, fit in zip(("v1", "v2", "v1"), (fitted[0], fitted[1], fitted[0]), strict=True):
        releases.promote(name)
        assert serving(model) == name
        assert model.current is not None
        np.testing.assert_allclose(
            model.current.predictor.positive(reference[0]), fit.probability, rtol=0, atol=1e-12
        )
    assert model.refusals == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "config"), ("no key", "config"), ("cd" * 32, "decryption-failed")],
)
def test_without_its_key_an_encrypted_version_is_refused_until_the_key_exists(
    releases: Any, fitted: Any, settings: Settings, key: Path, content: str | None, code: str
) -> None:
    model = ModelWatcher(settings.model_copy(update={"artifact_key_file": key}))
    releases.publish("v1", fitted[0])
    publish_encrypted(releases, "v2", fitted[1], key)
    releases.promote("v1")
    serving(model)
    right = key.read_text()
    key.unlink()
    if content is not None:
        key.write_text(content)
    releases.promote("v2")
    assert serving(model) == "v1"
    assert serving(model) == "v1"
    assert model.refusals_by_code == {code: 1}
    assert model.last_refusal is not None
    assert "ab" * 32 not in model.last_refusal.reason
    key.write_text(right)
    assert serving(model) == "v2"
    assert model.last_refusal is None


def test_without_any_key_the_refusal_names_the_key_that_is_needed(
    model: ModelWatcher, releases: Any, fitted: Any, key: Path
) -> None:
    publish_encrypted(releases, "v2", fitted[1], key)
    releases.promote("v2")
    assert serving(model) is None
    assert model.last_refusal is not None
    assert model.last_refusal.code == "decryption-failed"
    assert load_cipher(key, "").key_id in model.last_refusal.reason
    assert "BC_ARTIFACT_KEY_FILE" in model.last_refusal.reason


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by the name of each version that is read."""
    opened: list[str] = []
    real = model_watcher.open_pointer

    def open_pointer(store: Any, pointer: Any, *keys: Any) -> Any:
        opened.append(pointer.version)
        return real(store, pointer, *keys)

    monkeypatch.setattr(model_watcher, "open_pointer", open_pointer)
    return opened


def test_a_refused_version_is_not_read_again_until_its_files_change(
    model: ModelWatcher, releases: Any, fitted: Any, opened: list[str]
) -> None:
    releases.publish("v2", fitted[1])
    releases.promote("v2")
    corrupt_model(releases)
    for _ in range(3):
        assert serving(model) is None
    assert opened == ["v2"]
    corrupt_model(releases)
    assert serving(model) == "v2"
    assert opened == ["v2", "v2"]


def test_a_change_of_any_file_that_loading_depends_on_leads_to_another_try(
    releases: Any, fitted: Any, settings: Settings, key: Path, opened: list[str]
) -> None:
    model = ModelWatcher(settings.model_copy(update={"artifact_key_file": key}))
    releases.publish("v2", fitted[1], threshold=1.5)
    releases.promote("v2")
    folder = releases.store.version("v2")
    files = [path for path in folder.iterdir() if path.name != signed_bundle.ESTIMATOR]
    files += [settings.verify_key, key]
    serving(model)
    for count, path in enumerate(files, start=1):
        assert len(opened) == count
        os.utime(path, (count, count))
        serving(model)
        serving(model)
        assert len(opened) == count + 1, path
    assert model.refusals_by_code == {"artifact-corrupt": len(files) + 1}
    assert model.refusals == len(files) + 1


def test_a_refused_version_is_tried_again_after_a_while(
    model: ModelWatcher,
    releases: Any,
    fitted: Any,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    now = 1000.0
    monkeypatch.setattr(model_watcher, "time", SimpleNamespace(monotonic=lambda: now))
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    with monkeypatch.context() as patch:
        patch.setattr(loaded_model, "load_predictor", fail)
        # From the refusal on, and from each further one.
        for seconds, tries in ((0.0, 1), (29.9, 1), (30.0, 2), (59.9, 2), (60.0, 3)):
            now = 1000.0 + seconds
            assert serving(model) is None
            assert len(opened) == tries
    assert model.refusals == 1
    now += model_watcher.RETRY_SECONDS
    assert serving(model) == "v1"
    assert model.last_refusal is None


def test_loading_and_refusing_are_logged(model: ModelWatcher, releases: Any, fitted: Any) -> None:
    for name, fit in zip(("v1", "v2"), fitted, strict=False):
        releases.publish(name, fit)
    with capture_logs() as logs:
        releases.promote("v1")
        serving(model)
        releases.promote("v2")
        serving(model)
        releases.promote("v1", manifest_sha256="0" * 64)
        serving(model)
    first, second, refused = logs
    assert 0 <= first.pop("seconds") < 60
    assert 0 <= second.pop("seconds") < 60
    live = {"event": "model_live", "log_level": "info"}
    assert first == live | {"version": "v1", "generation": 1, "before": None}
    assert second == live | {"version": "v2", "generation": 2, "before": "v1"}
    assert model.last_refusal is not None
    reason = refused.pop("reason")
    assert refused == {
        "event": "model_refused",
        "log_level": "error",
        "version": "v1",
        "code": "artifact-corrupt",
        "serving": "v2",
    }
    assert model.last_refusal == ModelRefusal(
        version="v1",
        code="artifact-corrupt",
        reason=reason.replace(str(releases.settings.home), "BC_HOME"),
        at=model.last_refusal.at,
    )
    age = clock.now() - clock.parse_time(model.last_refusal.at)
    assert timedelta(seconds=-1) <= age < timedelta(minutes=5)


def test_the_time_of_the_last_successful_reading_is_known(
    model: ModelWatcher, releases: Any
) -> None:
    serving(model)
    assert model.checked_at is not None
    assert timedelta() <= clock.now() - model.checked_at < timedelta(minutes=5)
    before = model.checked_at
    releases.store.registry.parent.mkdir(parents=True)
    releases.store.registry.write_bytes(b"{")
    serving(model)
    assert model.checked_at == before


def test_a_signed_version_that_contradicts_itself_is_refused(
    model: ModelWatcher, releases: Any, fitted: Any
) -> None:
    releases.publish("v2", fitted[1], threshold=1.5)
    releases.promote("v2")
    assert serving(model) is None
    assert model.last_refusal is not None
    assert model.refusals_by_code == {"artifact-corrupt": 1}
    assert "threshold" in model.last_refusal.reason


def test_a_model_that_fails_its_warm_up_is_refused(
    model: ModelWatcher, releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def positive(self, rows: np.ndarray) -> np.ndarray:
            return np.full(len(rows), np.nan)

    monkeypatch.setattr(loaded_model, "load_predictor", lambda *_, **__: Broken())
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    assert serving(model) is None
    assert model.last_refusal is not None
    assert model.last_refusal.code == "degenerate-model"


def test_another_manifest_than_the_promoted_one_is_refused(
    model: ModelWatcher, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1", manifest_sha256="0" * 64)
    assert serving(model) is None
    assert model.last_refusal is not None
    assert model.last_refusal.code == "artifact-corrupt"


def test_a_repaired_version_is_loaded_and_the_refusal_is_reset(
    model: ModelWatcher, releases: Any, fitted: Any
) -> None:
    releases.publish("v2", fitted[1])
    whole = (releases.store.version("v2") / MODEL).read_bytes()
    releases.promote("v2")
    corrupt_model(releases)
    assert serving(model) is None
    (releases.store.version("v2") / MODEL).write_bytes(whole)
    assert serving(model) == "v2"
    assert (model.refusals, model.last_refusal) == (1, None)


def test_the_signed_verdict_overrules_the_registry(
    model: ModelWatcher, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    rejected = msgspec.structs.replace(releases.passed_verdict("v2"), passed=False)
    releases.publish("v2", fitted[1], rejected)
    releases.promote("v1")
    serving(model)
    releases.promote("v2")
    assert serving(model) == "v1"
    assert model.last_refusal is not None
    assert model.last_refusal.code == "not-releasable"


def test_without_the_verification_key_a_version_is_refused_until_it_exists(
    model: ModelWatcher, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    key = releases.settings.verify_key.read_bytes()
    releases.settings.verify_key.unlink()
    assert serving(model) is None
    assert model.last_refusal is not None
    assert model.last_refusal.code == "config"
    releases.settings.verify_key.write_bytes(key)
    assert serving(model) == "v1"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 9}', b"\0" * 100])
def test_a_damaged_registry_is_refused_once_and_changes_nothing(
    model: ModelWatcher, releases: Any, fitted: Any, content: bytes
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    serving(model)
    releases.store.registry.write_bytes(content)
    assert serving(model) == "v1"
    assert serving(model) == "v1"
    assert model.refusals == 1


def test_a_missing_registry_changes_nothing(
    model: ModelWatcher, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    serving(model)
    releases.store.registry.unlink()
    assert serving(model) == "v1"
    assert model.last_refusal is not None
    assert "gone" in model.last_refusal.reason


def test_a_registry_without_a_champion_withdraws_the_model(
    model: ModelWatcher, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    serving(model)
    write_registry(releases.store, Registry(problem="wdbc", generation=2))
    with capture_logs() as logs:
        assert serving(model) is None
        assert serving(model) is None
    assert [(entry["event"], entry["version"]) for entry in logs] == [("model_withdrawn", "v1")]
    assert model.refusals == 0


def test_a_withdrawal_resets_the_refusal_so_that_a_retry_is_immediate(
    model: ModelWatcher, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1", manifest_sha256="0" * 64)
    assert serving(model) is None
    assert model.last_refusal is not None
    write_registry(releases.store, Registry(problem="wdbc", generation=2))
    assert serving(model) is None
    assert model.last_refusal is None


def test_a_registry_of_another_problem_is_refused(
    model: ModelWatcher, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    write_registry(releases.store, Registry(problem="other", generation=2))
    assert serving(model) is None
    assert model.refusals == 1


def test_an_unexpected_exception_is_a_refusal(
    model: ModelWatcher, releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: Any, **__: Any) -> None:
        raise MemoryError("of 17.99")

    releases.publish("v1", fitted[0])
    releases.promote("v1")
    monkeypatch.setattr(loaded_model, "load_predictor", explode)
    assert serving(model) is None
    assert model.last_refusal is not None
    assert model.last_refusal.reason == "MemoryError while it was loaded."
    assert model.refusals_by_code == {"unreadable": 1}
    assert model.last_refusal.version == "v1"


def test_a_pinned_model_stays(releases: Any, fitted: Any, settings: Settings) -> None:
    model = load_folder(releases.challenger("unpublished", fitted[2]), settings)
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    pinned = ModelWatcher(settings, model)
    pinned.refresh()
    assert pinned.current is model
    assert (pinned.refusals, pinned.refusals_by_code, pinned.last_refusal) == (0, {}, None)
    assert pinned.checked_at is None
