"""What an executor makes of a model that was sent to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.versions import MANIFEST, MODEL, open_stored
from bc_pipeline.errors import ArtifactCorrupt, ConfigError, PipelineError, SignatureInvalid
from bc_pipeline.scoring.parts import FileTask, Shipment, open_shipment, scan_file, ship
from bc_pipeline.tables import Place


@pytest.fixture
def sound(releases: Any, fitted: Any) -> Shipment:
    releases.publish("v0", fitted[0])
    key = releases.settings.verify_key
    return ship(open_stored(releases.store, "v0", key), key)


def flipped(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


def changed(sound: Shipment, name: str) -> Shipment:
    return replace(sound, files=sound.files | {name: flipped(sound.files[name])})


def test_a_sound_model_is_loaded_once(sound: Shipment) -> None:
    assert open_shipment(sound).manifest.version == "v0"
    assert open_shipment(sound) is open_shipment(sound)


def test_a_model_that_was_changed_is_refused_though_a_sound_one_was_loaded(
    sound: Shipment,
) -> None:
    open_shipment(sound)
    refused: dict[str, type[PipelineError]] = {MODEL: ArtifactCorrupt, MANIFEST: SignatureInvalid}
    for name, kind in refused.items():
        with pytest.raises(kind):
            open_shipment(changed(sound, name))


def test_other_code_is_refused(sound: Shipment) -> None:
    with pytest.raises(ConfigError, match=r"the driver 0\.0\.0\+other"):
        open_shipment(replace(sound, code="0.0.0+other"))


def test_an_executor_goes_by_its_own_key(
    sound: Shipment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.make_keys(tmp_path / "signing.pem", tmp_path / "verify.pem")
    monkeypatch.setenv("BC_VERIFY_KEY_FILE", str(tmp_path / "verify.pem"))
    monkeypatch.setattr("bc_pipeline.scoring.parts._opened", {})
    with pytest.raises(SignatureInvalid):
        open_shipment(sound)


def test_a_file_out_of_reach_is_worth_another_try(sound: Shipment, tmp_path: Path) -> None:
    place = Place(str(tmp_path / "gone.csv"), "gone.csv")
    told = scan_file(FileTask(file=0, place=place, part_bytes=1), sound)
    assert told.failure is not None
    assert told.failure["code"] == "transient"
