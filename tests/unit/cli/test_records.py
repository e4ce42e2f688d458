"""The `records` commands."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bc_pipeline.cli.app import app
from bc_pipeline.problems import get_problem
from bc_pipeline.records.database import open_database
from bc_pipeline.records.drain import Drainer
from bc_pipeline.records.entry import Entry, first_id
from bc_pipeline.records.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.records.segments import quarantine_folder
from bc_pipeline.records.spool import Spool
from bc_pipeline.settings import Settings


def run(*words: str, code: int = 0, answer: str | None = None) -> Result:
    result = CliRunner().invoke(app, ["records", *words], input=answer)
    assert result.exit_code == code, result.output
    return result


def told(*words: str, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", code=code).stdout)


@pytest.fixture
def recorded(settings: Settings) -> Iterator[list[Entry]]:
    """Predictions of ten days, in the database."""
    now = time.time()
    made = [
        Entry(
            first_id(now - day * 86_400),
            now - day * 86_400,
            "v1",
            "ab" * 32,
            0.25,
            False,
            0.001,
            "ward",
            "/v1/predict",
            bytes(240),
            None,
        )
        for day in range(10, 0, -1)
    ]
    spool = Spool.open(settings, "worker-0")
    spool.append(made)
    spool.close()
    drainer = Drainer(settings, threading.Event())
    assert drainer.run(once=True)
    yield made
    open_database(settings).close()


def test_status_while_a_drainer_runs(settings: Settings, recorded: list[Entry]) -> None:
    stop = threading.Event()
    drainer = threading.Thread(target=Drainer(settings, stop).run)
    drainer.start()
    deadline = time.monotonic() + 10
    result = told_status()
    while not result["drainer_runs"] and time.monotonic() < deadline:
        result = told_status()
    stop.set()
    drainer.join()
    assert (result["database"], result["drained"], result["backlog_bytes"]) == ("ok", 10, 0)
    assert result["drainer_runs"]


def told_status() -> Any:
    return json.loads(CliRunner().invoke(app, ["records", "status", "--json"]).stdout)


def test_status_without_a_drainer_is_not_well(recorded: list[Entry]) -> None:
    assert told("status", code=11)["drainer_runs"] is False


def test_status_without_a_database_is_not_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://bc:canary-password@/bc?host={tmp_path}"
    monkeypatch.setenv("BC_RECORDS_URL", url)
    assert told("status", code=11)["database"] == "away"
    assert "canary" not in run("migrate", code=8).output


def test_export_takes_the_last_day_whole(recorded: list[Entry], tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    days = [time.strftime("%Y-%m-%d", time.gmtime(made.at)) for made in recorded]
    result = told("export", str(path), "--from", days[2], "--to", days[4], "--with-outcomes")
    assert result["rows"] == 3
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["prediction_id"] for row in rows] == [made.id for made in recorded[2:5]]
    assert {row["outcome"] for row in rows} == {""}
    run("export", str(tmp_path / "out.xlsx"), code=3)


def test_export_replaces_a_file_only_when_told(recorded: list[Entry], tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("precious")
    refused = run("export", str(path), code=3)
    assert "--force" in refused.output
    assert path.read_text() == "precious"
    assert told("export", str(path), "--force")["rows"] == 10


def test_status_shows_outcomes_as_a_table(settings: Settings, recorded: list[Entry]) -> None:
    labels = get_problem("wdbc").labels
    record_outcomes(settings, [OutcomeReport(recorded[0].id, False, "lab")], labels)
    drainer = Drainer(settings, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    shown = run("status", code=11).output
    assert "{" not in shown
    (line,) = [line for line in shown.splitlines() if "v1" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["v1", "0", "0", "0", "1"]
    assert told("status", code=11)["outcomes"] == {"v1": {"tp": 0, "fn": 0, "fp": 0, "tn": 1}}


def test_purge_asks_first(settings: Settings, recorded: list[Entry]) -> None:
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(recorded[4].at + 3_600))
    asked = run("purge", "--before", before, code=1, answer="n\n")
    assert "Remove 5 predictions" in asked.output
    aside = quarantine_folder(settings.records) / f"{recorded[0].id}.refused"
    aside.parent.mkdir()
    aside.write_bytes(b"features")
    asked = run("purge", "--before", before, code=1, answer="n\n")
    assert "1 files that were set aside" in asked.output
    done = told("purge", "--before", before, "--yes")
    assert (done["removed"], done["set_aside_removed"]) == (5, 1)
    assert not aside.exists()
    assert told("purge", "--before", before, "--yes")["removed"] == 0


def test_migrate_tells_the_revision(settings: Settings) -> None:
    assert told("migrate") == {"database": "sqlite", "revision": "0001"}
