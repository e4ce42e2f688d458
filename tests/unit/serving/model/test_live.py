from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from bc_pipeline.artifacts import signing, versions
from bc_pipeline.artifacts.files import write_record
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.sealed import encrypted
from bc_pipeline.artifacts.versions import MODEL, read_registry
from bc_pipeline.encryption import load_cipher
from bc_pipeline.serving.model import live
from bc_pipeline.serving.model.live import LiveModel
from bc_pipeline.settings import Settings


@pytest.fixture
def model(settings: Settings) -> LiveModel:
    return LiveModel(settings)


def serving(model: LiveModel) -> str | None:
    model.refresh()
    return model.current.version if model.current else None


def test_without_a_registry_there_is_no_model_and_no_refusal(model: LiveModel) -> None:
    for _ in range(3):
        assert serving(model) is None
        assert (model.refusals, model.last_refusal) == (0, None)
    assert model.checked_at is not None


def test_a_promotion_is_taken(model: LiveModel, releases: Any, fitted: Any) -> None:
    releases.publish("v1", fitted[0])
    assert serving(model) is None
    releases.promote("v1")
    assert serving(model) == "v1"
    assert model.current is not None
    assert (model.current.generation, model.current.source) == (1, "registry")


def test_the_swap_changes_one_reference(
    model: LiveModel, releases: Any, fitted: Any, reference: Any
) -> None:
    for name, made in zip(("v1", "v2"), fitted, strict=False):
        releases.publish(name, made)
    releases.promote("v1")
    serving(model)
    held = model.current
    releases.promote("v2")
    assert serving(model) == "v2"
    assert held is not None
    # A request that holds the old reference still gets the old model's answers.
    assert held.version == "v1"
    np.testing.assert_allclose(
        held.predictor.positive(reference[0]), fitted[0].probability, rtol=0, atol=1e-12
    )
    assert model.current is not None
    np.testing.assert_allclose(
        model.current.predictor.positive(reference[0]), fitted[1].probability, rtol=0, atol=1e-12
    )


def test_a_new_generation_of_the_same_version_loads_nothing(
    model: LiveModel, releases: Any, fitted: Any
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


def corrupt_model(releases: Any) -> None:
    path = releases.store.version("v2") / MODEL
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate_model(releases: Any) -> None:
    path = releases.store.version("v2") / MODEL
    path.write_bytes(path.read_bytes()[:-10])


def drop_signature(releases: Any) -> None:
    (releases.store.version("v2") / versions.SIGNATURE).unlink()


def change_manifest(releases: Any) -> None:
    path = releases.store.version("v2") / versions.MANIFEST
    path.write_text(path.read_text().replace('"threshold": 0.4', '"threshold": 0.9'))


def truncate_manifest(releases: Any) -> None:
    path = releases.store.version("v2") / versions.MANIFEST
    path.write_bytes(path.read_bytes()[:-10])


def drop_manifest(releases: Any) -> None:
    (releases.store.version("v2") / versions.MANIFEST).unlink()


def drop_version(releases: Any) -> None:
    shutil.rmtree(releases.store.version("v2"))


def sign_with_another_key(releases: Any) -> None:
    other = releases.settings.home / "other"
    signing.make_keys(other / "signing.pem", other / "verify.pem")
    manifest = (releases.store.version("v2") / versions.MANIFEST).read_bytes()
    signature = signing.sign(manifest, other / "signing.pem")
    (releases.store.version("v2") / versions.SIGNATURE).write_bytes(signature)


def take_the_place_of(releases: Any) -> None:
    """Under the name of the version that was released stands another one, signed as well."""
    shutil.rmtree(releases.store.version("v2"))
    shutil.copytree(releases.store.version("v1"), releases.store.version("v2"))


def put_an_older_registry_back(releases: Any) -> None:
    registry = read_registry(releases.store)
    write_record(releases.store.registry, msgspec.structs.replace(registry, generation=1))


def change_the_served_generation(releases: Any) -> None:
    registry = read_registry(releases.store)
    write_record(releases.store.registry, msgspec.structs.replace(registry, generation=2))


def truncate_registry(releases: Any) -> None:
    releases.store.registry.write_bytes(releases.store.registry.read_bytes()[:-10])


def rename_registry(releases: Any) -> None:
    registry = read_registry(releases.store)
    write_record(releases.store.registry, msgspec.structs.replace(registry, problem="other"))


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
        (take_the_place_of, "artifact-corrupt"),
        (put_an_older_registry_back, "generation-replayed"),
        (change_the_served_generation, "generation-replayed"),
        (truncate_registry, "artifact-corrupt"),
        (rename_registry, "artifact-corrupt"),
    ],
)
def test_whatever_was_damaged_is_refused_once_and_the_old_model_serves(
    model: LiveModel, releases: Any, fitted: Any, damage: Callable[[Any], None], code: str
) -> None:
    releases.publish("v1", fitted[0])
    releases.publish("v2", fitted[1])
    # Twice, so that there is a generation before the one that is served.
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


def publish_encrypted(releases: Any, name: str, made: Any, key: Path) -> None:
    cipher = load_cipher(key, "BC_ARTIFACT_KEY_FILE")
    releases.publish(name, replace(made, graph=encrypted(name, MODEL, made.graph, cipher)))


def test_encrypted_and_plain_versions_are_served_alike(
    releases: Any, fitted: Any, settings: Settings, key: Path, reference: Any
) -> None:
    model = LiveModel(settings.model_copy(update={"artifact_key_file": key}))
    releases.publish("v1", fitted[0])
    publish_encrypted(releases, "v2", fitted[1], key)
    for name, made in zip(("v1", "v2", "v1"), (fitted[0], fitted[1], fitted[0]), strict=True):
        releases.promote(name)
        assert serving(model) == name
        assert model.current is not None
        np.testing.assert_allclose(
            model.current.predictor.positive(reference[0]), made.probability, rtol=0, atol=1e-12
        )
    assert model.refusals == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "config"), ("no key", "config"), ("cd" * 32, "decryption-failed")],
)
def test_without_its_key_an_encrypted_version_is_refused_until_the_key_is_there(
    releases: Any, fitted: Any, settings: Settings, key: Path, content: str | None, code: str
) -> None:
    model = LiveModel(settings.model_copy(update={"artifact_key_file": key}))
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


def test_without_any_key_an_encrypted_version_names_the_one_it_needs(
    model: LiveModel, releases: Any, fitted: Any, key: Path
) -> None:
    publish_encrypted(releases, "v2", fitted[1], key)
    releases.promote("v2")
    assert serving(model) is None
    assert model.last_refusal is not None
    assert model.last_refusal.code == "decryption-failed"
    assert load_cipher(key, "").key_id in model.last_refusal.reason
    assert "BC_ARTIFACT_KEY_FILE" in model.last_refusal.reason


def test_a_refused_version_is_not_read_again_until_something_changes(
    model: LiveModel, releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = live.open_pointer

    def open_pointer(store: Any, pointer: Any, *keys: Any) -> Any:
        opened.append(pointer.version)
        return real(store, pointer, *keys)

    monkeypatch.setattr(live, "open_pointer", open_pointer)
    releases.publish("v2", fitted[1])
    releases.promote("v2")
    corrupt_model(releases)
    for _ in range(3):
        assert serving(model) is None
    assert opened == ["v2"]
    corrupt_model(releases)
    assert serving(model) == "v2"
    assert opened == ["v2", "v2"]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"problem": "other"}, "artifact-corrupt", "other"),
        ({"schema_fingerprint": "0" * 64}, "schema-mismatch", "fingerprint"),
        ({"schema": {}}, "schema-mismatch", "fingerprint"),
        ({"training_range": {}}, "schema-mismatch", "training ranges"),
        ({"threshold": 1.5}, "artifact-corrupt", "threshold"),
        ({"labels": {}}, "schema-mismatch", "fingerprint"),
    ],
)
def test_a_signed_version_that_contradicts_itself_is_refused(
    model: LiveModel, releases: Any, fitted: Any, changes: dict[str, Any], code: str, said: str
) -> None:
    releases.publish("v2", fitted[1], **changes)
    releases.promote("v2")
    assert serving(model) is None
    assert model.last_refusal is not None
    assert model.last_refusal.code == code
    assert model.refusals_by_code == {code: 1}
    assert said in model.last_refusal.reason


def test_a_graph_of_another_width_is_refused(
    model: LiveModel, releases: Any, fitted: Any, reference: Any
) -> None:
    from sklearn.base import clone

    from bc_pipeline.artifacts.export import export_onnx

    values, codes = reference
    narrow = clone(fitted[0].estimator).fit(values[:, :29], (codes == 0).astype(int))
    releases.publish("v2", replace(fitted[0], graph=export_onnx(narrow, 29)))
    releases.promote("v2")
    assert serving(model) is None
    assert model.last_refusal is not None
    assert model.last_refusal.code == "model"


def test_a_signed_file_that_is_no_graph_is_refused(
    model: LiveModel, releases: Any, fitted: Any
) -> None:
    releases.publish("v2", replace(fitted[0], graph=b"no graph"))
    releases.promote("v2")
    assert serving(model) is None
    assert model.refusals == 1


def test_a_model_that_gives_no_probability_is_refused(
    model: LiveModel, releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __init__(self, answer: float) -> None:
            self.answer = answer

        def positive(self, values: np.ndarray) -> np.ndarray:
            return np.full(len(values), self.answer)

    releases.publish("v1", fitted[0])
    for answer in (np.nan, 1.5, -0.1):
        monkeypatch.setattr(live, "load_predictor", lambda *_, a=answer, **__: Broken(a))
        releases.promote("v1")
        fresh = LiveModel(releases.settings)
        assert serving(fresh) is None
        assert fresh.last_refusal is not None
        assert fresh.last_refusal.code == "degenerate-model"


def test_another_manifest_than_the_promoted_one_is_refused(
    model: LiveModel, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1", manifest_sha256="0" * 64)
    assert serving(model) is None
    assert model.last_refusal is not None
    assert model.last_refusal.code == "artifact-corrupt"


def test_a_repaired_version_is_taken_and_the_refusal_is_cleared(
    model: LiveModel, releases: Any, fitted: Any
) -> None:
    releases.publish("v2", fitted[1])
    whole = (releases.store.version("v2") / MODEL).read_bytes()
    releases.promote("v2")
    corrupt_model(releases)
    assert serving(model) is None
    (releases.store.version("v2") / MODEL).write_bytes(whole)
    assert serving(model) == "v2"
    assert (model.refusals, model.last_refusal) == (1, None)


@pytest.mark.parametrize("fault", ["rejected", "backfilled", "about another version"])
def test_the_signed_verdict_counts_more_than_the_registry(
    model: LiveModel, releases: Any, fitted: Any, fault: str
) -> None:
    releases.publish("v1", fitted[0])
    verdict, changes = releases.passed_verdict("v2"), {}
    if fault == "rejected":
        verdict = msgspec.structs.replace(verdict, passed=False)
    elif fault == "backfilled":
        lineage = msgspec.structs.replace(releases.draft("v2").lineage, live=False)
        changes = {"lineage": lineage}
    else:
        verdict = releases.passed_verdict("v1")
    releases.publish("v2", fitted[1], verdict, **changes)
    releases.promote("v1")
    serving(model)
    releases.promote("v2")
    assert serving(model) == "v1"
    assert model.last_refusal is not None
    assert model.last_refusal.code == "not-releasable"


def test_a_missing_key_is_a_refusal_until_it_is_there(
    model: LiveModel, releases: Any, fitted: Any
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
def test_a_broken_registry_is_counted_once_and_changes_nothing(
    model: LiveModel, releases: Any, fitted: Any, content: bytes
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    serving(model)
    releases.store.registry.write_bytes(content)
    assert serving(model) == "v1"
    assert serving(model) == "v1"
    assert model.refusals == 1


def test_a_registry_that_went_missing_changes_nothing(
    model: LiveModel, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    serving(model)
    releases.store.registry.unlink()
    assert serving(model) == "v1"
    assert model.last_refusal is not None
    assert "gone" in model.last_refusal.reason


def test_an_empty_pointer_withdraws_the_model(model: LiveModel, releases: Any, fitted: Any) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    serving(model)
    write_record(releases.store.registry, Registry(problem="wdbc", generation=2))
    assert serving(model) is None
    assert model.refusals == 0


def test_a_registry_of_another_problem_is_refused(
    model: LiveModel, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    write_record(releases.store.registry, Registry(problem="other", generation=2))
    assert serving(model) is None
    assert model.refusals == 1


def test_an_unforeseen_error_is_a_refusal_too(
    model: LiveModel, releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: Any, **__: Any) -> None:
        raise MemoryError("of 17.99")

    releases.publish("v1", fitted[0])
    releases.promote("v1")
    monkeypatch.setattr(live, "load_predictor", explode)
    assert serving(model) is None
    assert model.last_refusal is not None
    assert model.last_refusal.reason == "MemoryError while it was loaded."


def test_a_refusal_that_was_the_machines_fault_does_not_last(
    model: LiveModel, releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: Any, **__: Any) -> None:
        raise MemoryError

    releases.publish("v1", fitted[0])
    releases.promote("v1")
    with monkeypatch.context() as patch:
        patch.setattr(live, "load_predictor", explode)
        patch.setattr(live, "RETRY_SECONDS", 0.0)
        assert serving(model) is None
        assert serving(model) is None
        assert model.refusals == 1
    assert serving(model) is None
    monkeypatch.setattr(live, "RETRY_SECONDS", 0.0)
    assert serving(model) == "v1"
    assert model.last_refusal is None


def test_the_centre_of_the_training_rows_is_a_record_that_the_service_takes(
    releases: Any, wdbc: Any
) -> None:
    row = np.array([live.centre(releases.draft("v1"))])
    assert wdbc.schema.row_defects(row) == {}
