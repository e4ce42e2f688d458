"""An executor verifies the model that it was sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.signed_bundle import MANIFEST, MODEL
from bc_pipeline.artifacts.versions import open_stored
from bc_pipeline.errors import ArtifactCorrupt, ConfigError, PipelineError, SignatureInvalid
from bc_pipeline.scoring.executor_tasks import FileTask, scan_file
from bc_pipeline.scoring.model_package import ModelPackage, open_model_package, pack_model
from bc_pipeline.settings import Settings
from bc_pipeline.tables.locations import FileLocation


@pytest.fixture
def sound(releases: Any, fitted: Any) -> ModelPackage:
    releases.publish("v0", fitted[0])
    key = releases.settings.verify_key
    return pack_model(open_stored(releases.store, "v0", key), key)


def flipped(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


def changed(sound: ModelPackage, name: str) -> ModelPackage:
    return replace(sound, files=sound.files | {name: flipped(sound.files[name])})


def test_a_sound_model_is_loaded_once(sound: ModelPackage) -> None:
    assert open_model_package(Settings(), sound).manifest.version == "v0"
    assert open_model_package(Settings(), sound) is open_model_package(Settings(), sound)


def test_a_model_that_was_changed_is_refused_though_a_sound_one_was_loaded(
    sound: ModelPackage,
) -> None:
    open_model_package(Settings(), sound)
    refused: dict[str, type[PipelineError]] = {MODEL: ArtifactCorrupt, MANIFEST: SignatureInvalid}
    for name, kind in refused.items():
        with pytest.raises(kind):
            open_model_package(Settings(), changed(sound, name))


def test_other_code_is_refused(sound: ModelPackage) -> None:
    with pytest.raises(ConfigError, match=r"the driver 0\.0\.0\+other"):
        open_model_package(Settings(), replace(sound, code="0.0.0+other"))


def test_an_executor_goes_by_its_own_key(
    sound: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.make_keys(tmp_path / "signing.pem", tmp_path / "verify.pem")
    monkeypatch.setenv("BC_VERIFY_KEY_FILE", str(tmp_path / "verify.pem"))
    monkeypatch.setattr("bc_pipeline.scoring.model_package._predictors", {})
    with pytest.raises(SignatureInvalid):
        open_model_package(Settings(), sound)


def test_a_file_out_of_reach_is_worth_another_try(sound: ModelPackage, tmp_path: Path) -> None:
    location = FileLocation(str(tmp_path / "gone.csv"), "gone.csv")
    result = scan_file(Settings(), FileTask(file=0, location=location, part_bytes=1), sound)
    assert result.failure is not None
    assert result.failure["code"] == "transient"
