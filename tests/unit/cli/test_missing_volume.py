"""A mistyped BC_HOME: every command that needs a volume says that there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.commands import run_command

READING = [
    ["registry"],
    ["registry", "--repair"],
    ["verdict"],
    ["verify-repro"],
    ["audit", "verify"],
    ["audit", "tip"],
    ["anchor", "show"],
    ["batch", "list"],
    ["batch", "show", "3f2a9c1b7d5e8a40"],
    ["logs"],
    ["prune", "--dry-run"],
    ["erase", "--id", "1", "--reason", "letter", "--dry-run"],
    ["erase", "--list"],
    ["upgrade", "--dry-run"],
    ["records", "status"],
    ["records", "export", "answers.csv"],
    ["records", "purge", "--before", "2026-01-01", "--yes"],
    ["rollback", "--reason", "drift"],
    ["promote", "v1", "--reason", "trained by hand"],
    ["approve", "v1", "--reason", "read the card"],
    ["score", "rows.csv", "scores.csv"],
    ["batch-score"],
    ["validate"],
    ["snapshot"],
    ["train", "--dataset", "d"],
    ["evaluate", "--dataset", "d"],
    ["decide", "v1"],
    ["backup", "backup.age"],
    ["backfill", "--from", "2026-09-13", "--to", "2026-09-26"],
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BC_HOME", str(tmp_path / "mistyped"))
    return tmp_path


def _refusal(words: list[str]) -> dict[str, object]:
    error: dict[str, object] = json.loads(run_command(*words, "--json", code=3).stdout)["error"]
    return error


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_folder_that_does_not_exist(words: list[str], folder: Path) -> None:
    error = _refusal(words)
    assert error["code"] == "config"
    assert f"no volume in {folder / 'mistyped'}: the folder does not exist" in str(error["message"])
    assert "Correct BC_HOME" in str(error["remedy"])
    assert error["fields"] == {"setting": "BC_HOME"}
    assert not list(folder.iterdir()), "something was made"


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_folder_that_is_no_volume(words: list[str], folder: Path) -> None:
    (folder / "mistyped").mkdir()
    (folder / "mistyped" / "notes.txt").write_text("mine")
    assert "it has no file of one" in str(_refusal(words)["message"])
    assert [path.name for path in folder.rglob("*")] == ["mistyped", "notes.txt"]


def test_it_is_one_line(folder: Path) -> None:
    result = run_command("registry", code=3)
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


def test_doctor_has_it_as_a_failed_check(folder: Path) -> None:
    checks = json.loads(run_command("doctor", "--json", code=11).stdout)
    store = next(check for check in checks if check["name"] == "store")
    assert not store["ok"]
    assert "no volume in" in store["detail"]
    assert "Correct BC_HOME" in store["remedy"]


def test_status_says_it_below_its_report(folder: Path) -> None:
    result = run_command("status", "--json", code=11)
    assert json.loads(result.stdout)["volume"] is False
    assert "There is no volume in" in result.stderr


def test_down_names_the_folder_in_which_no_stack_runs(folder: Path) -> None:
    assert str(folder / "mistyped") in run_command("down").stderr


@pytest.mark.parametrize(
    "words", [["records", "status"], ["records", "purge", "--before", "2026-01-01", "--yes"]]
)
def test_a_folder_of_the_prediction_log_that_does_not_exist(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_RECORDS_DIR", str(folder / "no-records"))
    error = _refusal(words)
    assert error["fields"] == {"setting": "BC_RECORDS_DIR"}
    assert not list(folder.iterdir()), "something was made"


def test_keys_of_a_folder_that_does_not_exist(folder: Path) -> None:
    assert _refusal(["keys", "list"])["fields"] == {"setting": "BC_HOME"}
