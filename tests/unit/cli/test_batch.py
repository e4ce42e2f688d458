"""The `batch` commands, and what `ingest` says of a known file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.signed_document import write_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import ArtifactCorrupt
from bc_pipeline.problems.base import Problem
from bc_pipeline.promotion.batch_decisions import check_batches
from tests.unit.commands import run_command


@pytest.fixture
def landed(
    store: Store, wdbc: Problem, reference: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> Path:
    signing.make_keys(store.signing_key, store.verify_key)
    values, codes = reference
    rows = [",".join([*map(repr, values[row].tolist()), "MB"[codes[row]]]) for row in range(20)]
    path = tmp_path / "march.csv"
    path.write_text("\n".join([",".join([*wdbc.schema.names, "diagnosis"]), *rows]))
    return path


def answer(*words: str, code: int = 0) -> Any:
    return json.loads(run_command(*words, "--json", code=code).stdout)


def test_a_batch_is_withdrawn_and_restored_with_audit_lines(landed: Path, store: Store) -> None:
    batch = answer("ingest", str(landed), "--arrived-at", "2026-03-01")["batch"]
    assert [one["state"] for one in answer("batch", "list")] == ["counts"]
    assert answer("snapshot")["rows"] == 20

    withdrawn = answer("batch", "withdraw", batch, "--reason", "labels of another clinic")
    assert (withdrawn["changed"], withdrawn["state"]) == (True, "withdrawn")
    assert answer("snapshot", code=4)["error"]["code"] == "nothing-as-of"
    assert answer("snapshot", "--as-of", "2026-03-01")["rows"] == 20
    again = answer("ingest", str(landed))
    assert again["known"]
    assert f"`bc-pipeline batch restore {batch}`" in again["notes"][0]
    assert not answer("batch", "withdraw", batch, "--reason", "twice")["changed"]

    restored = answer("batch", "restore", batch, "--reason", "they were right")
    assert [one["event"] for one in restored["decisions"]] == ["withdrawn", "restored"]
    assert answer("snapshot")["rows"] == 20
    assert answer("batch", "show", batch)["state"] == "restored"
    lines = read_audit_log(store).lines
    assert [line.event for line in lines] == ["batch_withdrawn", "batch_restored"]
    assert lines[0].details == {"batch": batch, "reason": "labels of another clinic"}
    assert lines[0].actor.startswith("cli:")
    assert answer("audit", "verify")["lines"] == 2
    assert check_batches(store) == "1 batch, 0 of them withdrawn"
    assert "labels of another clinic" in run_command("batch", "show", batch).stdout


def test_what_cannot_be_withdrawn_ends_in_one_message(landed: Path) -> None:
    batch = answer("ingest", str(landed))["batch"]
    assert answer("batch", "show", "0123", code=6)["error"]["code"] == "not-stored"
    assert answer("batch", "withdraw", "../x", "--reason", "a", code=6)["error"]
    error = answer("batch", "withdraw", batch, "--reason", " ", code=3)["error"]
    assert error["fields"]["setting"] == "--reason"
    assert not answer("batch", "restore", batch, "--reason", "a")["changed"]


def test_a_known_file_with_another_time_says_that_it_was_not_taken(landed: Path) -> None:
    answer("ingest", str(landed), "--arrived-at", "2026-03-01")
    result = answer("ingest", str(landed), "--arrived-at", "2026-04-01")
    assert result["arrived_at"] == "2026-03-01T00:00:00Z"
    assert "2026-04-01T00:00:00Z was not taken" in result["notes"][0]
    assert (
        "was not taken" in run_command("ingest", str(landed), "--arrived-at", "2026-04-01").stdout
    )
    assert answer("ingest", str(landed), "--arrived-at", "2026-03-01")["notes"] == []


def test_doctor_names_a_batch_of_a_wrong_time_and_a_lost_decision(
    landed: Path, store: Store
) -> None:
    batch = answer("ingest", str(landed), "--arrived-at", "2026-03-01")["batch"]
    document = store.batch_document(batch)
    stored_as = document.read_text().replace("2026-03-01T", "2106-03-01T")
    write_signed(store, document, stored_as.encode())
    with pytest.raises(ArtifactCorrupt, match=f"time of batch {batch}, 2106-03-01T00:00:00Z, lies"):
        check_batches(store)
    assert "lies more than a day ahead" in answer("batch", "list")[0]["state"]
    answer("batch", "withdraw", batch, "--reason", "dated 2106")
    assert check_batches(store) == "1 batch, 1 of them withdrawn"
    store.batch_history(batch).unlink()
    with pytest.raises(ArtifactCorrupt, match="is not withdrawn, and the audit log says withdrawn"):
        check_batches(store)


def test_a_removed_or_an_earlier_decision_restores_no_batch(landed: Path, store: Store) -> None:
    batch = answer("ingest", str(landed))["batch"]
    document = store.batch_history(batch)
    answer("batch", "withdraw", batch, "--reason", "wrong")
    answer("batch", "restore", batch, "--reason", "was right")
    earlier = document.read_bytes()
    assert answer("snapshot")["rows"] == 20
    answer("batch", "withdraw", batch, "--reason", "was wrong after all")
    latest = document.read_bytes()

    for content in (earlier, None):
        if content is None:
            document.unlink()
        else:
            document.write_bytes(content)
        for command in ("snapshot", "validate"):
            error = answer(command, code=6)["error"]
            assert error["code"] == "artifact-corrupt"
            assert f"batch {batch} was withdrawn" in error["message"]
    document.write_bytes(latest)
    assert answer("snapshot", code=4)["error"]["code"] == "nothing-as-of"


def test_a_held_batch_is_visible_and_accepted_with_audit_lines(
    landed: Path, store: Store, reference: tuple[np.ndarray, np.ndarray], wdbc: Problem
) -> None:
    values, codes = reference
    rows = [",".join([*map(repr, values[row].tolist()), "M"]) for row in np.flatnonzero(codes == 0)]
    landed.write_text("\n".join([landed.read_text().splitlines()[0], *rows[:60]]))
    result = answer("ingest", str(landed), "--arrived-at", "2026-03-01")
    batch = result["batch"]
    assert result["held"]
    (note,) = result["notes"]
    assert f"`bc-pipeline batch accept {batch} --reason TEXT`" in note
    assert "share of positive labels 1.00" in note
    assert "At most 1.0% of clean batches would be held" in note
    assert [one["state"] for one in answer("batch", "list")] == ["held"]
    assert answer("snapshot", code=4)["error"]["code"] == "nothing-as-of"
    assert check_batches(store).startswith("1 batch, 0 of them withdrawn, 1 held")

    # Without its history it still counts nowhere, and is held again as the audit log says.
    store.batch_history(batch).unlink()
    assert answer("snapshot", code=6)["error"]["code"] == "artifact-corrupt"
    with pytest.raises(ArtifactCorrupt, match="the audit log says held"):
        check_batches(store)
    assert answer("ingest", str(landed))["held"]

    accepted = answer("batch", "accept", batch, "--reason", "a referral clinic")
    assert (accepted["changed"], accepted["state"]) == (True, "accepted")
    assert "share of positive labels" in run_command("batch", "show", batch).stdout
    assert answer("snapshot")["rows"] == 60
    assert not answer("batch", "accept", batch, "--reason", "twice")["changed"]
    assert [line.event for line in read_audit_log(store).lines] == ["batch_held", "batch_accepted"]
    assert check_batches(store) == "1 batch, 0 of them withdrawn"

    # Nobody's decision is made anew by removing it.
    store.batch_history(batch).unlink()
    again = answer("ingest", str(landed))
    assert again["held"]
    assert "not checked" in again["notes"][0]
    assert answer("snapshot", code=6)["error"]["code"] == "artifact-corrupt"
