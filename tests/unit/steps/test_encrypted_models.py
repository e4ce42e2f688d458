"""The whole workflow on a volume that gets its key for models between two weeks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.signed_bundle import CARD, MODEL_FILES, required_key_id
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import ConfigError, DecryptionFailed
from bc_pipeline.problems.base import Problem
from bc_pipeline.serving.model.model_watcher import ModelWatcher
from bc_pipeline.settings import Settings, load_settings
from bc_pipeline.stack import doctor
from bc_pipeline.steps import Run

pytestmark = pytest.mark.integration

Land = Callable[..., Path]
# Plaintext parts of our ONNX graphs and of a pickled estimator.
TRACES = (
    b"ai.onnx",
    b"bc_pipeline\x12",
    b"features\x12",
    b"sklearn.linear_model",
    b'"weights":',
    b"## Coefficients",
)


def run_week(number: int) -> str:
    """Every step from ingest to promotion; gives the version."""
    run = Run("toy", f"run-{number}", f"2026-03-{number:02d}T00:00:00Z")
    steps.ingest(load_settings(), run)
    validation = steps.validate(load_settings(), run)["validation"]
    dataset = steps.snapshot(load_settings(), run, validation)["dataset"]
    for candidate in steps.candidates(run.problem):
        steps.train(load_settings(), run, dataset, candidate)
    chosen = steps.select(load_settings(), run, dataset)
    exported = steps.export(
        load_settings(), run, dataset, chosen["candidate"], chosen["threshold"], validation
    )
    steps.evaluate(load_settings(), run, exported["version"])
    verdict = steps.decide(load_settings(), run, exported["version"])
    assert verdict["passed"], verdict["reasons"]
    steps.promote(load_settings(), run, verdict["version"])
    return str(verdict["version"])


def holding_a_model(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and any(trace in path.read_bytes() for trace in TRACES):
            yield path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "artifact_key"
    path.write_text("5a" * 32)
    return path


def encryption(settings: Settings) -> doctor.CheckResult:
    return {finding.name: finding for finding in doctor.check_volume(settings)}["toy encryption"]


def test_from_plain_to_encrypted_and_who_can_still_read_it(
    toy: Problem, land: Land, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_SERVICE_PROBLEM", "toy")
    keyless = load_settings()
    volume = Store(keyless.home, "toy")
    source = land("base.csv", 1, "2026-02-01")
    plain = run_week(1)
    # So that the search below can find something.
    assert {path.name for path in holding_a_model(keyless.home)} == MODEL_FILES | {CARD}
    without = ModelWatcher(keyless)
    without.refresh()
    assert without.current is not None
    assert without.current.version == plain
    shutil.move(volume.version(plain), tmp_path / "aside")
    assert not list(holding_a_model(keyless.home))
    shutil.move(tmp_path / "aside", volume.version(plain))

    monkeypatch.setenv("BC_ARTIFACT_KEY_FILE", str(key))
    settings = load_settings()
    cipher = settings.artifact_cipher()
    assert cipher is not None
    land("more.csv", 2, "2026-03-01T12:00:00Z")
    # Evaluated beside the plain champion, and smoke-tested in the real service.
    secret = run_week(2)
    assert {path.parent.name for path in holding_a_model(keyless.home)} == {plain}
    opened = versions.open_stored(volume, secret, settings.verify_key, cipher)
    others = [
        path.read_bytes()
        for path in keyless.home.rglob("*")
        if path.is_file() and not path.is_relative_to(volume.version(plain))
    ]
    for name in MODEL_FILES:
        middle = len(opened.read(name)) // 2
        assert not any(opened.read(name)[middle : middle + 32] in data for data in others)

    # With the key everything works.
    served = ModelWatcher(settings)
    served.refresh()
    assert served.current is not None
    assert (served.current.version, served.refusals) == (secret, 0)
    assert steps.score(load_settings(), "toy", source, tmp_path / "scores.csv")["scored"] == 240
    assert steps.verify_repro(load_settings(), "toy", secret)["worst_difference"] <= 1e-12
    assert steps.verify_repro(load_settings(), "toy", plain)["worst_difference"] <= 1e-12
    found = encryption(settings)
    assert (found.ok, found.detail) == (
        True,
        f"versions: 1 plain, 1 with the key {cipher.key_id} (available)",
    )

    # A new key before it: the old champion is still compared with.
    key.write_text("a5" * 32 + "\n" + "5a" * 32)
    land("even_more.csv", 4, "2026-03-03T12:00:00Z")
    newest = run_week(4)
    renewed = load_settings().artifact_cipher()
    assert renewed is not None
    assert required_key_id(volume.version(newest)) == renewed.key_id != cipher.key_id
    assert steps.rollback(load_settings(), "toy", secret, "me")["version"] == secret
    key.write_text("5a" * 32)

    # Without it the signed parts are still read, and nothing answers with the model.
    monkeypatch.delenv("BC_ARTIFACT_KEY_FILE")
    without.refresh()
    assert without.current.version == plain
    assert without.refusals_by_code == {"decryption-failed": 1}
    with pytest.raises(DecryptionFailed, match=cipher.key_id):
        steps.score(load_settings(), "toy", source, tmp_path / "scores.csv")
    assert steps.verdict(load_settings(), "toy", secret)["passed"]
    assert steps.rollback(load_settings(), "toy", plain, "me")["version"] == plain
    assert steps.rollback(load_settings(), "toy", secret, "me")["version"] == secret
    found = encryption(keyless)
    assert not found.ok
    assert f"1 with the key {cipher.key_id} (not available)" in found.detail
    assert secret in found.remedy

    # A key file that is gone is a setting that is wrong, not a reason to write in plain.
    key.unlink()
    monkeypatch.setenv("BC_ARTIFACT_KEY_FILE", str(key))
    land("late.csv", 3, "2026-03-04T12:00:00Z")
    with pytest.raises(ConfigError) as caught:
        run_week(5)
    assert caught.value.setting == "BC_ARTIFACT_KEY_FILE"
    assert {path.parent.name for path in holding_a_model(keyless.home)} == {plain}
    assert encryption(load_settings()).remedy == caught.value.remedy


def test_a_run_that_is_made_again_gives_the_same_bytes(
    toy: Problem, land: Land, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_ARTIFACT_KEY_FILE", str(key))
    land("base.csv", 1, "2026-02-01")
    homes = []
    for name in ("one", "two"):
        home = tmp_path / name
        shutil.copytree(load_settings().home, home)
        monkeypatch.setenv("BC_HOME", str(home))
        version = run_week(1)
        homes.append(Store(home, "toy").version(version))
        monkeypatch.setenv("BC_HOME", str(tmp_path / "home"))
    for name in MODEL_FILES:
        first, second = ((folder / name).read_bytes() for folder in homes)
        assert first == second
        assert first.startswith(b"BCX1")
