"""The form of what stands on the volume: readers of other releases rely on it.

A change that makes one of these fail needs a new format number, not a new expectation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bc_pipeline.artifacts import signed_bundle, signing, versions
from bc_pipeline.artifacts.manifest import DagCode, Lineage, Manifest, Pointer, Recipe, Registry
from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import ArtifactCorrupt, PipelineError, SignatureInvalid
from bc_pipeline.problems.base import Problem
from bc_pipeline.promotion import audit, transition
from tests.volumes import new_store

NAME = "20261115T000000Z-logistic-0123456789"
CONTENT = {
    "model.onnx": b"graph",
    "model.joblib": b"estimator",
    "evaluation.json": b"{}",
    "verdict.json": b"{}",
    "card.md": b"# Card\n",
    "figures/roc.png": b"picture",
}
SHA256 = "sha256"
DAG = {
    "dag_id": "wdbc_retrain",
    "version_id": "0199f0a0-0000-7000-8000-000000000000",
    "bundle": "dags",
    "bundle_version": "9fceb02d0ae598e95dc970b74767f19372d61af8",
    "sha256": "e" * 64,
}


class Volume:
    """A volume with one published version in production."""

    def __init__(self, home: Path, problem: Problem) -> None:
        self.store = new_store(home, problem.name)
        self.private, self.public = home / "keys" / "signing.pem", home / "keys" / "verify.pem"
        signing.make_keys(self.private, self.public)
        work = self.store.work / NAME
        for name, data in CONTENT.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(data)
        draft = Manifest(
            problem=problem.name,
            version=NAME,
            recipe=Recipe("logistic", "Logistic regression", "logistic-1", {"C": 1.0}, 7),
            threshold=0.4,
            labels=problem.labels.to_dict(),
            schema=problem.schema.to_dict(),
            schema_fingerprint=problem.schema.fingerprint,
            training_range=dict.fromkeys(problem.schema.names, (0.0, 1.0)),
            training_median=dict.fromkeys(problem.schema.names, 0.5),
            metrics={"f1": 0.9, "roc_auc": None},
            libraries={"numpy": "2"},
            lineage=Lineage(
                "d",
                ("b",),
                "2026-11-15T00:00:00Z",
                "s",
                455,
                114,
                "v",
                "c",
                "r",
                None,
                None,
                True,
                DagCode(**DAG),
            ),
            files={},
        )
        versions.publish(self.store, draft, work, self.private)
        self.folder = self.store.version(NAME)
        pointer = Pointer(
            version=NAME,
            manifest_sha256=hashlib.sha256(self.read("manifest.json")).hexdigest(),
            model="Logistic regression",
            recipe="logistic-1",
            f1=0.9,
            metrics={"f1": 0.9},
            threshold=0.4,
            dataset="d",
            as_of="2026-11-15T00:00:00Z",
            kind="first",
            promoted_at="2026-11-15T06:00:00Z",
        )
        transition.release(
            self.store, Registry(problem=problem.name, generation=0), "promotion", pointer, "a", "r"
        )

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def open(self, key: Path | None = None) -> None:
        versions.open_champion(self.store, key or self.public).verify_all()


@pytest.fixture
def volume(tmp_path: Path, wdbc: Problem) -> Volume:
    volume = Volume(tmp_path / "volume", wdbc)
    volume.open()
    return volume


def _paths(plain: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields; what a user names (features, files) is left out."""
    for key, value in plain.items():
        yield prefix + key
        if isinstance(value, dict) and key not in {"params", "metrics", "libraries", "details"}:
            yield from _paths(value, f"{prefix}{key}.")


# Paths and contents


def test_the_layout_of_the_volume(volume: Volume) -> None:
    home = volume.store.home
    registry = hashlib.sha256(volume.store.registry.read_bytes()).hexdigest()
    found = {
        path.relative_to(home).as_posix()
        for path in home.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    version = f"models/wdbc/versions/{NAME}"
    assert found == {
        "keys/signing.pem",
        "keys/verify.pem",
        "store.json",
        "models/wdbc/registry.json",
        f"models/wdbc/registry.json.{registry[:16]}.sig",
        "audit/wdbc.jsonl",
        f"{version}/manifest.json",
        f"{version}/manifest.sig",
        *(f"{version}/{name}" for name in CONTENT),
    }


def test_the_fields_of_a_manifest(volume: Volume) -> None:
    plain = json.loads(volume.read("manifest.json"))
    assert plain["format"] == 3
    plain["training_range"] = plain["training_median"] = {}
    label = {
        f"labels.{side}{field}"
        for side in ("positive", "negative")
        for field in ("", ".name", ".code", ".spellings")
    }
    assert set(_paths(plain)) == label | {
        "format", "problem", "version", "threshold", "training_range", "training_median",
        "metrics", "libraries",
        "recipe", "recipe.candidate", "recipe.title", "recipe.recipe", "recipe.params",
        "recipe.seed", "recipe.source",
        "labels", "labels.column", "labels.aliases",
        "schema", "schema.features", "schema.rules", "schema.id_aliases", "schema.metadata",
        "schema_fingerprint",
        "lineage", "lineage.dataset", "lineage.batches", "lineage.as_of", "lineage.split_salt",
        "lineage.train_rows", "lineage.holdout_rows", "lineage.validation",
        "lineage.code_version", "lineage.run_id", "lineage.interval_start",
        "lineage.interval_end", "lineage.live", "lineage.dag",
        "lineage.split", "lineage.refit",
        *(f"lineage.dag.{field}" for field in DAG),
        "files",
        *(f"files.{name}" for name in CONTENT),
        *(f"files.{name}.{field}" for name in CONTENT for field in ("sha256", "size")),
    }  # fmt: skip
    assert set(plain["schema"]["features"][0]) == {"name", "unit", "minimum", "maximum", "aliases"}
    assert set(plain["schema"]["metadata"][0]) == {"name", "pattern", "expected", "aliases"}


def test_a_manifest_describes_its_files(volume: Volume) -> None:
    plain = json.loads(volume.read("manifest.json"))
    assert plain["files"] == {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in CONTENT.items()
    }


def test_a_manifest_contains_schema_and_labels_of_the_problem(
    volume: Volume, wdbc: Problem
) -> None:
    manifest = versions.open_champion(volume.store, volume.public).manifest
    assert manifest.feature_schema == wdbc.schema
    assert manifest.label_set == wdbc.labels


def test_the_fields_of_coefficients(fitted: Any) -> None:
    """scikit-learn's, of StandardScaler and LogisticRegression, in the schema's order."""
    plain = json.loads(fitted[0].coefficients)
    scaler, model = fitted[0].estimator
    assert plain == {
        "format": 1,
        "mean": scaler.mean_.tolist(),
        "scale": scaler.scale_.tolist(),
        "weights": model.coef_[0].tolist(),
        "intercept": model.intercept_[0],
    }


def test_the_fields_of_a_registry(volume: Volume) -> None:
    plain = json.loads(volume.store.registry.read_bytes())
    assert plain["format"] == 1
    assert plain["generation"] == 1
    assert set(plain) == {"format", "problem", "generation", "production", "staging", "previous"}
    assert set(plain["production"]) == {
        "version", "manifest_sha256", "model", "recipe", "f1", "metrics", "threshold", "dataset",
        "as_of", "kind", "promoted_at", "approved_by",
    }  # fmt: skip


def test_the_fields_of_the_audit_log(volume: Volume) -> None:
    lines = [json.loads(raw) for raw in volume.store.audit.read_bytes().splitlines()]
    assert [line["event"] for line in lines] == ["release_started", "promotion"]
    for line in lines:
        assert list(line) == [
            "sequence", "at", "event", "problem", "version", "generation", "actor", "run_id",
            "details", "previous_sha256", "sha256", "key_id", "signature",
        ]  # fmt: skip
        assert set(line["details"]) == {
            "release", "replaces", "manifest_sha256", "kind", "approved_by",
        }  # fmt: skip
    assert audit.verify(volume.store).lines == 2


def test_the_signature_is_plain_ed25519_over_the_manifests_bytes(volume: Volume) -> None:
    key = load_pem_public_key(volume.public.read_bytes())
    key.verify(volume.read("manifest.sig"), volume.read("manifest.json"))


def test_a_signature_beside_a_file_is_ed25519_over_its_path_and_digest(volume: Volume) -> None:
    key = load_pem_public_key(volume.public.read_bytes())
    (signature,) = volume.store.models.glob("registry.json.*.sig")
    digest = hashlib.sha256(volume.store.registry.read_bytes()).hexdigest()
    message = f"bc-pipeline file\nmodels/wdbc/registry.json\n{digest}\n".encode()
    key.verify(signature.read_bytes(), message)


# Refusals


def _refused(volume: Volume, key: Path | None = None) -> type[PipelineError]:
    with pytest.raises((ArtifactCorrupt, SignatureInvalid)) as caught:
        volume.open(key)
    return caught.type


@pytest.mark.parametrize("name", CONTENT)
def test_any_altered_byte_of_a_file_is_refused(volume: Volume, name: str) -> None:
    data = volume.read(name)
    for position in range(len(data)):
        altered = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        (volume.folder / name).write_bytes(altered)
        assert _refused(volume) is ArtifactCorrupt
    for other in (data[:-1], data + b"\n", b""):
        (volume.folder / name).write_bytes(other)
        assert _refused(volume) is ArtifactCorrupt
    (volume.folder / name).write_bytes(data)
    volume.open()


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig"])
def test_any_altered_byte_of_manifest_or_signature_is_refused(volume: Volume, name: str) -> None:
    data = volume.read(name)
    for position in range(0, len(data), max(1, len(data) // 200)):
        altered = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        (volume.folder / name).write_bytes(altered)
        assert _refused(volume) is SignatureInvalid
    for other in (data[:-1], data + b"\n", b""):
        (volume.folder / name).write_bytes(other)
        assert _refused(volume) is SignatureInvalid


@pytest.mark.parametrize("name", [*CONTENT, "manifest.json"])
def test_a_missing_file_is_refused(volume: Volume, name: str) -> None:
    (volume.folder / name).unlink()
    assert _refused(volume) is ArtifactCorrupt


def test_an_unsigned_version_is_refused(volume: Volume) -> None:
    (volume.folder / "manifest.sig").unlink()
    assert _refused(volume) is SignatureInvalid


@pytest.mark.parametrize("name", ["extra.pkl", "figures/extra.png", ".hidden", "new/file"])
def test_an_extra_file_is_refused(volume: Volume, name: str) -> None:
    (volume.folder / name).parent.mkdir(exist_ok=True)
    (volume.folder / name).write_bytes(b"")
    assert _refused(volume) is ArtifactCorrupt


def test_another_key_is_refused(volume: Volume, tmp_path: Path) -> None:
    signing.make_keys(tmp_path / "other.pem", tmp_path / "other_verify.pem")
    assert _refused(volume, tmp_path / "other_verify.pem") is SignatureInvalid
    data = volume.read("manifest.json")
    (volume.folder / "manifest.sig").write_bytes(signing.sign(data, tmp_path / "other.pem"))
    assert _refused(volume) is SignatureInvalid


def test_a_version_replaced_by_another_signed_one_is_refused(volume: Volume) -> None:
    data = volume.read("manifest.json").replace(b'"threshold": 0.4', b'"threshold": 0.9')
    (volume.folder / "manifest.json").write_bytes(data)
    (volume.folder / "manifest.sig").write_bytes(signing.sign(data, volume.private))
    versions.open_stored(volume.store, NAME, volume.public).verify_all()
    assert _refused(volume) is ArtifactCorrupt


def test_a_later_format_is_refused(volume: Volume) -> None:
    data = volume.read("manifest.json").replace(b'"format": 3', b'"format": 4')
    (volume.folder / "manifest.json").write_bytes(data)
    (volume.folder / "manifest.sig").write_bytes(signing.sign(data, volume.private))
    with pytest.raises(ArtifactCorrupt, match="format 4; this code reads up to format 3"):
        volume.open()


def test_a_manifest_of_format_1_is_read_as_before(volume: Volume) -> None:
    """It said nothing of a DAG."""
    plain = json.loads(volume.read("manifest.json"))
    del plain["lineage"]["dag"]
    plain["format"] = 1
    data = json.dumps(plain).encode()
    (volume.folder / "manifest.json").write_bytes(data)
    (volume.folder / "manifest.sig").write_bytes(signing.sign(data, volume.private))
    files = versions.open_stored(volume.store, NAME, volume.public)
    files.verify_all()
    assert (files.manifest.format, files.manifest.lineage.dag) == (1, None)


def test_the_format_of_an_encrypted_model(volume: Volume) -> None:
    """``BCX1``, key id (8), nonce (12), AES-256-GCM; tied to key id, version and file name."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key = bytes(range(32))
    box = signed_bundle.encrypt_if_model(NAME, "model.onnx", CONTENT["model.onnx"], Cipher(key))
    key_id = hashlib.sha256(b"key id" + key).digest()[:8]
    assert (box[:4], box[4:12]) == (b"BCX1", key_id)
    tied_to = key_id + f"{NAME}/model.onnx".encode()
    assert AESGCM(key).decrypt(box[12:24], box[24:], tied_to) == CONTENT["model.onnx"]
