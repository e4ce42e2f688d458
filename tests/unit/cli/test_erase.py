"""The `erase` command: what is gone, what is left, and what says so."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data import erasure
from bc_pipeline.data.batches import list_batches, read_batch
from bc_pipeline.data.erasure_notes import list_notes
from bc_pipeline.data.snapshot import load_dataset
from bc_pipeline.errors import ArtifactCorrupt
from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.entry import LogEntry, new_id
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.problems.base import Problem
from bc_pipeline.promotion.erasure_record import check_erasures
from bc_pipeline.settings import Settings
from bc_pipeline.stack.resigning import list_signed_files
from tests.unit.commands import run_command

REQUEST = ("erase", "--id", " p3", "--reason", "letter of 3 May", "--yes")


def answer(*words: str, code: int = 0) -> Any:
    return json.loads(run_command(*words, "--json", code=code).stdout)


def write_table(
    path: Path, problem: Problem, values: np.ndarray, labels: str, ids: list[str] | None
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = [*(["id"] if ids else []), *problem.schema.names, *(["diagnosis"] if labels else [])]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        for number, row in enumerate(values.tolist()):
            cells: list[Any] = [ids[number]] if ids else []
            writer.writerow([*cells, *row, *labels[number : number + 1]])


@pytest.fixture
def person(
    settings: Settings, store: Store, wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]
) -> Iterator[np.ndarray]:
    """A person with a row, a copy of it without an id, a rejected row and two predictions."""
    values, codes = reference
    labels = "".join("MB"[code] for code in codes)
    ids = [f"P{n}" for n in range(20)]
    write_table(store.landing / "a.csv", wdbc, values[:20], labels[:20], ids)
    again = np.vstack([np.round(values[3], 3), values[20:26]])
    write_table(store.landing / "b.csv", wdbc, again, labels[3] + labels[20:26], None)
    rejected = np.vstack([values[40], values[30:32]])
    rejected[0, 0] = -1.0
    write_table(store.landing / "c.csv", wdbc, rejected, labels[29:32], ["P3", "P30", "P31"])
    for name in ("a.csv", "b.csv", "c.csv"):
        run_command("ingest", str(store.landing / name), "--arrived-at", "2026-03-01")
    for batch in answer("batch", "list"):
        if batch["state"] == "held":
            run_command("batch", "accept", batch["batch"], "--reason", "rows of a test")
    spool = Spool.open(settings, "worker-0")
    spool.append([entry(values[3], None), entry(values[5], "P3"), entry(values[6], "P6")])
    yield values[3]
    spool.close()
    open_database(settings).close()


def entry(values: np.ndarray, sample_id: str | None) -> LogEntry:
    features = values.astype("<f8").tobytes()
    return LogEntry(new_id(), 1e9, "v", "ab" * 32, 0.7, True, 0.001, "w", "/", features, sample_id)


def all_ids(store: Store) -> set[str]:
    files = [*store.batches.glob("*.parquet"), *store.datasets.glob("*.parquet")]
    return {name for path in files for name in pq.read_table(path)["id"].to_pylist()}


def test_a_persons_rows_go_from_everything_that_is_derived(
    person: np.ndarray, store: Store, wdbc: Problem, settings: Settings
) -> None:
    before = answer("snapshot")
    seen = answer(*REQUEST[:-1], "--dry-run")
    assert [one["erased"] for one in seen["rows"]] == [1, 1, 1]
    assert (seen["quarantined"], seen["predictions"], seen["erasure"]) == (1, 2, None)
    assert list_notes(store) == []
    assert "P3" in all_ids(store)

    done = answer(*REQUEST, code=11)
    assert (done["quarantined"], done["predictions"]) == (1, 2)
    assert {file["source"]: file["lines"] for file in done["landed_files"]} == {
        "a.csv": [5], "b.csv": [2], "c.csv": [2],
    }  # fmt: skip
    assert "P3" not in all_ids(store)
    remaining = np.vstack([read_batch(wdbc, store, one).values for one in list_batches(store)])
    assert len(remaining) == 20 + 7 + 2 - 2
    assert not (np.abs(remaining - person).max(axis=1) < 0.01).any()
    assert not any("P3," in path.read_text() for path in store.quarantine.glob("*.csv"))
    assert load_dataset(wdbc, store, before["dataset"]).erasures == ("0001",)
    assert answer("snapshot")["rows"] == before["rows"] - 1
    left = answer("erase", "--id", "P6", "--reason", "other", "--dry-run")
    assert left["predictions"] == 1

    again = answer(*REQUEST, code=11)
    assert (again["rows"], again["predictions"], again["erasure"]) == ([], 0, None)


def test_the_note_says_that_and_why_without_the_person(person: np.ndarray, store: Store) -> None:
    answer("snapshot")
    answer(*REQUEST, code=11)
    note = list_notes(store)[0]
    assert (note.state, note.reason, note.requested_by) == ("finished", "letter of 3 May", "id")
    assert (note.quarantined, note.predictions) == (1, 2)
    text = store.erasure_note("0001").read_text() + store.audit.read_text()
    assert "p3" not in text.casefold().replace("p30", "")
    assert repr(float(person[0])) not in text
    assert read_audit_log(store).lines[-1].event == "erasure"
    assert answer("erase", "--list")[0]["erasure"] == "0001"
    assert store.erasure_note("0001") in list_signed_files(store)
    assert check_erasures(store) == "1 erasure, all finished"
    error = answer("erase", "--id", "P3", "--reason", "P3 asked", "--yes", code=3)["error"]
    assert "repeats the id" in error["message"]


def test_the_landed_bytes_do_not_bring_the_rows_back(
    person: np.ndarray, store: Store, wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    values, codes = reference
    write_table(
        store.landing / "late.csv", wdbc, np.vstack([values[3], values[50]]),
        "MB"[codes[3]] + "MB"[codes[50]], ["P3", "P50"],
    )  # fmt: skip
    answer(*REQUEST, code=11)
    for name in ("a.csv", "late.csv"):
        answer("ingest", str(store.landing / name), "--arrived-at", "2026-03-02")
    assert "P3" not in all_ids(store)
    assert not any("P3," in path.read_text() for path in store.quarantine.glob("*.csv"))
    late = next(batch for batch in list_batches(store) if batch.source == "late.csv")
    assert late.reasons == {"was erased at a person's request": 1}


def test_a_killed_erasure_leaves_a_readable_volume_and_is_finished_by_the_same_request(
    person: np.ndarray, store: Store, wdbc: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = answer("snapshot")["dataset"]
    write, written = erasure.write_atomic, []

    def killed(path: Path, data: bytes) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(erasure, "write_atomic", killed)
        run_command(*REQUEST, code=130)
    assert len(written) == 1
    assert [len(read_batch(wdbc, store, one)) for one in list_batches(store)] != []
    assert load_dataset(wdbc, store, dataset).erasures
    with pytest.raises(ArtifactCorrupt, match="0001 is unfinished"):
        check_erasures(store)
    assert len(answer(*REQUEST, code=11)["rows"]) == 2
    assert "P3" not in all_ids(store)
    assert check_erasures(store) == "2 erasures, all finished"


def test_rows_of_before_are_not_taken_back(person: np.ndarray, store: Store, wdbc: Problem) -> None:
    batch = next(batch for batch in list_batches(store) if batch.source == "a.csv")
    path = store.batch_rows(batch.batch)
    before = path.read_bytes()
    answer(*REQUEST, code=11)
    path.write_bytes(before)
    with pytest.raises(ArtifactCorrupt):
        read_batch(wdbc, store, batch)
    with pytest.raises(ArtifactCorrupt, match="not what the last erasure left"):
        check_erasures(store)


def test_values_are_enough(person: np.ndarray, store: Store, wdbc: Problem, tmp_path: Path) -> None:
    write_table(tmp_path / "who.csv", wdbc, np.round(person, 3)[None], "", None)
    request = ("erase", "--values", str(tmp_path / "who.csv"), "--reason", "letter", "--yes")
    done = answer(*request, code=11)
    # The row has an id, by which the rejected row and the other prediction are found.
    assert (len(done["rows"]), done["quarantined"], done["predictions"]) == (2, 1, 2)
    assert "P3" not in all_ids(store)


def test_a_request_needs_one_of_id_and_values_and_a_reason(store: Store) -> None:
    assert answer("erase", "--reason", "x", "--yes", code=3)["error"]["fields"]["setting"] == "--id"
    assert (
        answer("erase", "--id", "P3", "--yes", code=3)["error"]["fields"]["setting"] == "--reason"
    )
    assert (
        answer("erase", "--id", "P3", "--reason", "x", code=3)["error"]["fields"]["setting"]
        == "--yes"
    )
    assert answer(*REQUEST)["erasure"] is None


def test_an_id_that_nobody_has_is_said_to_be_unknown_and_nothing_is_asked(store: Store) -> None:
    for flags in ((), ("--dry-run",), ("--yes",)):
        result = run_command("erase", "--id", "nobody", "--reason", "a letter", *flags)
        assert "Nothing of this person was found" in " ".join(result.stderr.split())
        assert "Erase this for ever?" not in result.output
        assert "Erased" not in result.output
    assert list_notes(store) == []
