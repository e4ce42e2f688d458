"""The commands on a real volume, without Airflow: in one process, through typer's runner."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from bc_pipeline.problems.base import Problem
from tests.unit.commands import invoke

Call = Callable[..., Any]


@pytest.fixture
def run() -> Callable[..., Result]:
    return invoke


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


def test_ingest_reports_counts_and_defects(answer: Call, labelled: Path) -> None:
    batch = answer("ingest", str(labelled))
    assert (batch["read"], batch["accepted"], batch["quarantined"]) == (570, 569, 1)
    assert batch["problems"][0]["line"] == 571
    assert batch["problems"][0]["column"] == "diagnosis"
    assert answer("ingest", str(labelled))["batch"] == batch["batch"]


def test_snapshot_has_the_rows_that_had_arrived(answer: Call, labelled: Path) -> None:
    answer("ingest", str(labelled), "--arrived-at", "2026-03-01")
    dataset = answer("snapshot", "--as-of", "2026-03-01")
    assert dataset["rows"] == 569
    assert dataset["train_rows"] + dataset["holdout_rows"] == 569
    early = answer("snapshot", "--as-of", "2026-02-28", code=4)
    assert early["error"]["code"] == "nothing-as-of"


def test_an_invalid_time_is_named(run: Callable[..., Result]) -> None:
    result = run("snapshot", "--as-of", "yesterday")
    assert result.exit_code == 3
    assert "'yesterday' is not a date or time" in result.stderr


@pytest.mark.parametrize("time", ["2099-01-01", "1899-12-31", "0001-01-01"])
@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["snapshot", "--as-of"], "--as-of"),
        (["validate", "--as-of"], "--as-of"),
        (["run", "--as-of"], "--as-of"),
        (["batch-score", "--as-of"], "--as-of"),
        (["evaluate", "--dataset", "d", "--as-of"], "--as-of"),
        (["ingest", "a.csv", "--arrived-at"], "--arrived-at"),
        (["backfill", "--to", "2026-01-01", "--from"], "--from"),
        (["backfill", "--from", "2026-01-01", "--to"], "--to"),
        (["records", "export", "new.csv", "--from"], "--from"),
        (["records", "export", "new.csv", "--to"], "--to"),
        (["records", "purge", "--before"], "--before"),
    ],
)
def test_a_time_that_cannot_be_is_named_with_its_option(
    run: Callable[..., Result], words: list[str], option: str, time: str
) -> None:
    result = run(*words, time)
    assert result.exit_code == 3
    assert f"{option} is {time}T00:00:00Z, which lies" in result.stderr


@pytest.mark.usefixtures("store")
def test_without_a_champion_commands_name_the_remedy(run: Callable[..., Result]) -> None:
    for words in (
        ["verdict"],
        ["rollback", "--reason", "r"],
        ["score", "a.csv", "b.csv"],
        ["verify-repro"],
    ):
        result = run(*words)
        assert result.exit_code == 6, words
        assert "promoted" in result.stderr


@pytest.mark.usefixtures("store")
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
        "fault": None,
    }
    assert status["service"] == {
        "url": "http://127.0.0.1:8000",
        "api_key_file": str(tmp_path / "home" / "keys" / "api_key"),
    }
    assert set(status["airflow"]) == {"url", "user", "password_file"}
    assert not status["running"]
    assert answer("down") == {"stopped": False}


@pytest.mark.usefixtures("store")
def test_a_stack_without_a_champion_is_not_called_healthy(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bc_pipeline.stack.control.is_supervisor_running", lambda _: True)
    monkeypatch.setattr("bc_pipeline.stack.control._all_answer", lambda _: True)
    status = run("status")
    assert status.exit_code == 11
    assert "No model was promoted yet" in status.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("rollback", ""),
        ("verdict", ""),
        ("verify-repro", ""),
        ("run", "--as-of", ""),
        ("run", "--as-of="),
        ("ingest", "a.csv", "--arrived-at", ""),
        ("batch", "withdraw", "", "--reason", "r"),
        ("keys", "retire", ""),
    ],
)
def test_an_empty_argument_is_wrong_usage(run: Callable[..., Result], words: tuple[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "is empty. Is a variable of your script not set?" in " ".join(result.output.split())
    options = [option for option, text in pairwise(words) if option.startswith("--") and not text]
    assert all(f"{option} is empty" in result.output for option in options)


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


def test_missing_keys_are_made(answer: Call) -> None:
    paths = answer("keys", "init")
    before = {path: Path(path).read_bytes() for path in paths.values()}
    assert answer("keys", "init") == paths
    assert {path: Path(path).read_bytes() for path in paths.values()} == before


def test_ingest_names_the_columns_of_metadata_that_it_read(
    answer: Call, tmp_path: Path, wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    path = tmp_path / "sites.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*wdbc.schema.names, "diagnosis", "Hospital", "age_band"])
        for index in range(20):
            site = "north" if index % 2 else ""
            label = "MB"[reference[1][index]]
            writer.writerow([*reference[0][index].tolist(), label, site, ""])
    batch = answer("ingest", str(path))
    assert batch["metadata"] == {"site": 10}
    assert not batch["known"]
    again = answer("ingest", str(path))
    assert (again["known"], again["metadata"]) == (True, {"site": 10})


def test_a_file_that_is_not_there_is_said_once(run: Callable[..., Result]) -> None:
    result = run("ingest", "nope.csv")
    assert result.exit_code == 4
    assert result.stderr.splitlines()[-1] == (
        "file-refused: nope.csv cannot be opened: No such file or directory."
    )


@pytest.mark.parametrize("command", ["verdict", "verify-repro", "promote", "rollback"])
def test_a_version_that_is_not_there_is_an_error_that_says_where_they_are(
    run: Callable[..., Result], releases: Any, fitted: Any, command: str
) -> None:
    releases.publish("20261115T000000Z-logistic-3f2a9c1b7d", fitted[0])
    releases.promote("20261115T000000Z-logistic-3f2a9c1b7d")
    reason = ("--reason", "r") if command in ("promote", "rollback") else ()
    result = run(command, "nope", *reason)
    assert result.exit_code == 6
    assert "wdbc has no version nope. See `bc-pipeline registry`." in result.stderr


def test_every_command_takes_the_short_names_of_the_registry(
    run: Callable[..., Result], answer: Call, releases: Any, fitted: Any
) -> None:
    first, second = "20261115T000000Z-logistic-3f2a9c1b7d", "20261122T000000Z-logistic-3f2a9c1c00"
    for name in (first, second):
        releases.publish(name, fitted[0])
        releases.promote(name)
    shown = run("registry").stdout
    assert f"3f2a9c1b  {first}" in shown
    assert answer("registry")["versions"] == [first, second]
    assert answer("verdict", "3f2a9c1b")["version"] == first
    for words in (["anchor", "set", "3f2a9c1c", "--reason", "why"], ["decide", "3f2a9c1c"]):
        assert answer(*words, code=6)["error"]["fields"]["version"] == second
    assert answer("promote", "3f2a9c1c", "--reason", "r")["version"] == second
    assert (
        answer("rollback", "3f2a9c1b", "--reason", "r", code=6)["error"]["fields"]["version"]
        == first
    )
    error = answer("verdict", "3f2a9c1", code=6)["error"]
    assert error["code"] == "version-ambiguous"
    assert error["fields"]["candidates"] == [first, second]


@pytest.mark.usefixtures("store")
def test_a_stopped_stack_is_called_stopped(run: Callable[..., Result]) -> None:
    result = run("status")
    assert result.exit_code == 11
    assert "The stack is stopped. Start it with `make up`" in result.stderr


@pytest.mark.usefixtures("store")
def test_an_erasure_names_its_options_as_they_are_typed(run: Callable[..., Result]) -> None:
    assert "Give --id ID or --values FILE" in run("erase", "--reason", "letter").stderr
    assert "--reason is missing" in run("erase", "--id", "1", "--dry-run").stderr
