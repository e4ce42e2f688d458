"""What a command needs at its end is missed before it starts to work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.store import Store
from tests.unit.commands import invoke, run_command
from tests.volumes import new_store

SIGNING = [
    ["run"],
    ["run", "--demo"],
    ["ingest", "a.csv"],
    ["validate"],
    ["snapshot"],
    ["train", "--dataset", "d"],
    ["evaluate", "--dataset", "d"],
    ["decide", "v1"],
    ["erase", "--id", "1", "--reason", "letter"],
    ["prune"],
    ["upgrade"],
]


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that starts fails the test."""
    for name in ("ingest", "ingest_one", "validate", "snapshot", "train", "score", "erase"):
        monkeypatch.setattr(steps, name, None, raising=False)


@pytest.mark.parametrize("words", SIGNING, ids=" ".join)
def test_a_signing_key_that_is_not_there(
    words: list[str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_SIGNING_KEY_FILE", str(store.home / "gone.pem"))
    result = invoke(*words)
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1
    assert "gone.pem cannot be read: No such file" in result.stderr
    assert not store.landing.exists()


@pytest.mark.parametrize("words", SIGNING, ids=" ".join)
def test_a_signing_key_that_nobody_trusts(
    words: list[str], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = new_store(tmp_path / "other")
    shutil.copy(other.signing_key, store.signing_key)
    result = invoke(*words)
    assert result.exit_code == 3
    assert "lacks the public key of" in result.stderr


def test_a_model_key_that_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BC_ARTIFACT_KEY_FILE", str(store.home / "gone.key"))
    assert "BC_ARTIFACT_KEY_FILE" in run_command("run", code=3).stderr


@pytest.mark.parametrize("words", [["score", "a.csv", "b.csv"], ["batch-score", "a.csv"]])
def test_a_champion_that_is_not_there(words: list[str], store: Store) -> None:
    result = run_command(*words, code=6)
    assert result.stderr.startswith("no-champion: ")


@pytest.mark.parametrize("words", [["score", "a.csv", "b.csv"], ["batch-score", "a.csv"]])
def test_scoring_needs_the_key_that_signs_validations(
    words: list[str], releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    monkeypatch.setenv("BC_SIGNING_KEY_FILE", "/gone.pem")
    assert "gone.pem cannot be read" in run_command(*words, code=3).stderr


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_dataset_that_is_not_there(command: str, store: Store) -> None:
    result = run_command(command, "--dataset", "nope", code=6)
    assert result.stderr.startswith("not-stored: There is no dataset 'nope' of wdbc.")


def test_a_new_volume_gets_its_keys_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "new"
    monkeypatch.setenv("BC_HOME", str(home))
    assert run_command("run", code=9).stderr  # Its first step is no function here.
    assert signing.key_id(home / "keys" / "signing.pem")
