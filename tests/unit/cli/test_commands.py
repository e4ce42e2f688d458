"""The commands on a real volume, without Airflow: in one process, through typer's runner."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bc_pipeline.cli.app import app
from bc_pipeline.problems.base import Problem

Call = Callable[..., Any]


@pytest.fixture
def run() -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.fixture
def answer(run: Callable[..., Result]) -> Call:
    def call(*words: str, code: int = 0) -> Any:
        result = run(*words, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    return call


@pytest.fixture
def labelled(tmp_path: Path, wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> Path:
    values, codes = reference
    path = tmp_path / "labelled.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*wdbc.schema.names, "diagnosis"])
        writer.writerows(
            [*row, "MB"[code]] for row, code in zip(values.tolist(), codes, strict=True)
        )
        writer.writerow([*values[0].tolist(), "?"])
    return path


def test_ingest_answers_with_counts_and_problems(answer: Call, labelled: Path) -> None:
    batch = answer("ingest", str(labelled))
    assert (batch["read"], batch["accepted"], batch["quarantined"]) == (570, 569, 1)
    assert batch["problems"][0]["line"] == 571
    assert batch["problems"][0]["column"] == "diagnosis"
    assert answer("ingest", str(labelled))["batch"] == batch["batch"]


def test_snapshot_sees_what_had_arrived(answer: Call, labelled: Path) -> None:
    answer("ingest", str(labelled), "--arrived-at", "2026-03-01")
    taken = answer("snapshot", "--as-of", "2026-03-01")
    assert taken["rows"] == 569
    assert taken["train_rows"] + taken["holdout_rows"] == 569
    early = answer("snapshot", "--as-of", "2026-02-28", code=4)
    assert early["error"]["code"] == "nothing-as-of"


def test_a_bad_time_names_itself(run: Callable[..., Result]) -> None:
    result = run("snapshot", "--as-of", "yesterday")
    assert result.exit_code == 3
    assert "'yesterday' is not a date or time" in result.stderr


def test_without_a_champion_commands_say_what_to_do(run: Callable[..., Result]) -> None:
    for words in (["verdict"], ["rollback"], ["score", "a.csv", "b.csv"], ["verify-repro"]):
        result = run(*words)
        assert result.exit_code == 6, words
        assert "promoted" in result.stderr


def test_status_of_a_stack_that_was_never_started(answer: Call, tmp_path: Path) -> None:
    status = answer("status", code=11)
    assert status["champion"] == {
        "problem": "wdbc",
        "version": None,
        "model": None,
        "f1": None,
        "promoted_at": None,
        "verdict": None,
        "generation": 0,
    }
    assert status["service"] == {
        "url": "http://127.0.0.1:8000",
        "api_key_file": str(tmp_path / "home" / "keys" / "api_key"),
    }
    assert set(status["airflow"]) == {"url", "user", "password_file"}
    assert not status["running"]
    assert answer("down") == {"stopped": False}


def test_an_unknown_problem_is_named(run: Callable[..., Result]) -> None:
    result = run("registry", "--problem", "rna")
    assert result.exit_code == 3
    assert "wdbc" in result.stderr


def test_a_wrong_setting_is_named(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_AIRFLOW_PORT", "eighty")
    result = run("status")
    assert result.exit_code == 3
    assert "BC_AIRFLOW_PORT" in result.stderr


@pytest.mark.parametrize("words", [["--help"], ["score", "--help"], ["audit", "verify", "--help"]])
def test_help_is_there(run: Callable[..., Result], words: list[str]) -> None:
    assert run(*words).exit_code == 0


def test_keys_are_made_where_they_are_missing(answer: Call) -> None:
    made = answer("keys", "init")
    before = {path: Path(path).read_bytes() for path in made.values()}
    assert answer("keys", "init") == made
    assert {path: Path(path).read_bytes() for path in made.values()} == before
