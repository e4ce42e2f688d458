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
from click.testing import Result

from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.entry import LogEntry, lowest_id
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.prediction_log.segments import quarantine_folder
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings
from tests.unit.commands import invoke, run_command


def run(*words: str, code: int = 0, reply: str | None = None) -> Result:
    return run_command("records", *words, code=code, reply=reply)


def answer(*words: str, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", code=code).stdout)


@pytest.fixture
def recorded(settings: Settings) -> Iterator[list[LogEntry]]:
    """Predictions of ten days, in the database."""
    now = time.time()
    entries = [
        LogEntry(
            lowest_id(now - day * 86_400),
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
    spool.append(entries)
    spool.close()
    drainer = Drainer(settings, threading.Event())
    assert drainer.run(once=True)
    yield entries
    open_database(settings).close()


def test_status_while_a_drainer_runs(settings: Settings, recorded: list[LogEntry]) -> None:
    stop = threading.Event()
    drainer = threading.Thread(target=Drainer(settings, stop).run)
    drainer.start()
    deadline = time.monotonic() + 10
    result = read_status()
    while not result["drainer_runs"] and time.monotonic() < deadline:
        result = read_status()
    stop.set()
    drainer.join()
    assert (result["database"], result["drained"], result["backlog_bytes"]) == ("ok", 10, 0)
    assert result["drainer_runs"]


def read_status() -> Any:
    return json.loads(invoke("records", "status", "--json").stdout)


def test_status_without_a_drainer_fails(recorded: list[LogEntry]) -> None:
    assert answer("status", code=11)["drainer_runs"] is False


def test_status_without_a_database_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"postgresql://bc:canary-password@/bc?host={tmp_path}"
    monkeypatch.setenv("BC_RECORDS_URL", url)
    assert answer("status", code=11)["database"] == "away"
    assert "canary" not in run("migrate", code=8).output


def test_export_includes_the_whole_last_day(recorded: list[LogEntry], tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    days = [time.strftime("%Y-%m-%d", time.gmtime(entry.at)) for entry in recorded]
    result = answer("export", str(path), "--from", days[2], "--to", days[4], "--with-outcomes")
    assert result["rows"] == 3
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["prediction_id"] for row in rows] == [entry.id for entry in recorded[2:5]]
    assert {row["outcome"] for row in rows} == {""}
    run("export", str(tmp_path / "out.xlsx"), code=3)


def test_export_replaces_a_file_only_with_force(recorded: list[LogEntry], tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("precious")
    refused = run("export", str(path), code=3)
    assert "--force" in refused.output
    assert path.read_text() == "precious"
    assert answer("export", str(path), "--force")["rows"] == 10


def test_status_shows_outcomes_as_a_table(settings: Settings, recorded: list[LogEntry]) -> None:
    labels = get_problem("wdbc").labels
    record_outcomes(settings, [OutcomeReport(recorded[0].id, False, "lab")], labels)
    drainer = Drainer(settings, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    shown = run("status", code=11).output
    assert "{" not in shown
    lines = [line for line in shown.splitlines() if "v1" in line]
    total, recent = (line.split() for line in lines)
    assert total == ["v1", "0", "0", "0", "1"]
    assert recent == [*total, str(recorded[0].probability)]
    counts = {"tp": 0, "fn": 0, "fp": 0, "tn": 1}
    result = answer("status", code=11)
    assert result["outcomes"] == {"v1": counts}
    assert result["recent_outcomes"] == {"v1": counts | {"expected": recorded[0].probability}}


def test_purge_asks_first(settings: Settings, recorded: list[LogEntry]) -> None:
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(recorded[4].at + 3_600))
    prompt = run("purge", "--before", before, code=12, reply="n\n")
    assert "Remove 5 predictions" in prompt.output
    quarantined = quarantine_folder(settings.records) / f"{recorded[0].id}.refused"
    quarantined.parent.mkdir()
    quarantined.write_bytes(b"features")
    prompt = run("purge", "--before", before, code=12, reply="n\n")
    assert "1 quarantined file?" in prompt.output
    removed = answer("purge", "--before", before, "--yes")
    assert (removed["removed"], removed["set_aside_removed"]) == (5, 1)
    assert not quarantined.exists()
    assert answer("purge", "--before", before, "--yes")["removed"] == 0


def test_migrate_shows_the_revision(settings: Settings) -> None:
    assert answer("migrate") == {"database": "sqlite", "revision": "0001"}


def test_land_writes_known_outcomes_up_to_a_time(
    settings: Settings, recorded: list[LogEntry]
) -> None:
    labels = get_problem("wdbc").labels
    reports = [OutcomeReport(entry.id, False, "lab") for entry in recorded[:2]]
    record_outcomes(settings, reports, labels)
    assert answer("land", "--as-of", "2026-01-01")["outcomes"] == 0
    result = answer("land")
    # Both have the same values.
    assert (result["outcomes"], result["landed"], result["known"]) == (2, 1, 1)
    (name,) = result["files"]
    assert (settings.home / "data" / "wdbc" / "landing" / name).exists()
    assert "2099" in run("land", "--as-of", "2099-01-01", code=3).output
