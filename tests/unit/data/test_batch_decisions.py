from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest

from bc_pipeline.artifacts.signed_document import write_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time
from bc_pipeline.data import batch_decisions
from bc_pipeline.data.batch_history import BatchEvent, is_withdrawn, read_history
from bc_pipeline.data.batches import list_batches
from bc_pipeline.data.ingest import ingest_file, ingest_landing
from bc_pipeline.data.rows_as_of import rows_as_of
from bc_pipeline.data.snapshot import load_dataset, make_snapshot
from bc_pipeline.data.split import split
from bc_pipeline.errors import BatchConflict, ConfigError, NothingAsOf, NotStored, RowsRejected
from bc_pipeline.problems.base import Problem

W = datetime(2026, 11, 20, 12, tzinfo=UTC)
BEFORE, AT = format_time(W - timedelta(seconds=1)), format_time(W)
LATER = format_time(W + timedelta(days=2))


@pytest.fixture
def lines() -> list[BatchEvent]:
    return []


@pytest.fixture
def withdraw(wdbc: Problem, store: Store, lines, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch_decisions, "now", lambda: W)
    return partial(
        batch_decisions.decide_batch,
        wdbc,
        store,
        decision="withdrawn",
        actor="cli:ada",
        reason="wrong",
        record=lines.append,
    )


@pytest.fixture
def restore(wdbc: Problem, store: Store, lines, monkeypatch: pytest.MonkeyPatch):
    def call(batch: str) -> BatchEvent | None:
        monkeypatch.setattr(batch_decisions, "now", lambda: W + timedelta(days=1))
        return batch_decisions.decide_batch(
            wdbc,
            store,
            batch,
            "restored",
            actor="cli:ada",
            reason="was right",
            record=lines.append,
        )

    return call


def flipped(rows, codes) -> dict[tuple[int, str], str]:
    return {(n, "diagnosis"): "BM"[codes[row]] for n, row in enumerate(rows)}


def test_snapshots_before_a_withdrawal_stay_and_later_ones_do_without_its_rows(
    wdbc: Problem, store: Store, make_file, withdraw, lines
) -> None:
    retained = ingest_file(make_file("a.csv", range(10)), wdbc, store).document
    gone = ingest_file(make_file("b.csv", range(5, 30)), wdbc, store).document
    before = make_snapshot(wdbc, store, BEFORE)
    event = withdraw(gone.batch)

    assert make_snapshot(wdbc, store, BEFORE) == before
    after = make_snapshot(wdbc, store, AT)
    assert (after.batches, after.document.rows) == ((retained.batch,), 10)
    assert lines == [event] == list(read_history(store, gone.batch).events)
    assert (event.at, event.actor, event.reason) == (AT, "cli:ada", "wrong")
    assert withdraw(gone.batch) is None
    assert len(lines) == 1


def test_its_landed_file_does_not_bring_a_batch_back(
    wdbc: Problem, store: Store, make_file, withdraw, restore
) -> None:
    path = make_file("a.csv", range(10), folder=store.landing)
    batch = ingest_landing(wdbc, store).batches[0].batch
    withdraw(batch)
    os.utime(path)
    copy = store.landing / "copy.csv"
    copy.write_bytes(path.read_bytes())

    report = ingest_landing(wdbc, store)
    assert (report.batches, report.new, set(report.withdrawn)) == ((), set(), {"a.csv", "copy.csv"})
    with pytest.raises(NothingAsOf):
        rows_as_of(wdbc, store, LATER)

    restore(batch)
    assert len(rows_as_of(wdbc, store, LATER)) == 10
    assert len(ingest_landing(wdbc, store).batches) == 1
    with pytest.raises(NothingAsOf):
        rows_as_of(wdbc, store, AT)
    assert len(rows_as_of(wdbc, store, BEFORE)) == 10


def test_corrected_labels_land_after_a_withdrawal_and_change_no_earlier_snapshot(
    wdbc: Problem, store: Store, make_file, withdraw, restore, reference
) -> None:
    rows = range(5)
    wrong = ingest_file(
        make_file("wrong.csv", rows, cells=flipped(rows, reference[1])), wdbc, store
    ).document
    # It was written before the withdrawal, and waited in the landing folder.
    right = make_file("right.csv", rows, arrived="2026-11-10")
    with pytest.raises(RowsRejected):
        ingest_file(right, wdbc, store)
    before = make_snapshot(wdbc, store, BEFORE)
    withdraw(wrong.batch)

    corrected = ingest_file(right, wdbc, store).document
    assert (corrected.accepted, corrected.quarantined, corrected.arrived_at) == (5, 0, AT)
    assert make_snapshot(wdbc, store, BEFORE) == before
    now = rows_as_of(wdbc, store, AT)
    assert now.batches == (corrected.batch,)
    with pytest.raises(BatchConflict, match=f"5 rows of {corrected.batch}"):
        restore(wrong.batch)
    assert is_withdrawn(store, wrong.batch)


def test_batches_with_rows_that_were_quarantined_because_of_it_are_named(
    wdbc: Problem, store: Store, make_file, withdraw, reference
) -> None:
    wrong = ingest_file(
        make_file("wrong.csv", range(3), cells=flipped(range(3), reference[1])), wdbc, store
    ).document
    partly = ingest_file(make_file("partly.csv", range(10)), wdbc, store).document
    assert partly.quarantined == 3
    assert batch_decisions.quarantined_because_of(store, wrong.batch) == {partly.batch: 3}
    withdraw(wrong.batch)
    again = ingest_file(make_file("again.csv", range(3)), wdbc, store).document
    assert (again.accepted, again.quarantined) == (3, 0)


@pytest.mark.parametrize("stored_time", ["1-01-01T00:00:00Z", "2106-02-07T06:28:16Z"])
def test_a_batch_of_a_wrong_time_is_mended_by_a_withdrawal(
    wdbc: Problem, store: Store, make_file, withdraw, restore, stored_time: str
) -> None:
    batch = ingest_file(make_file("a.csv", range(10)), wdbc, store).document
    path = store.batch_document(batch.batch)
    stored_as = path.read_text().replace(batch.arrived_at, stored_time)
    write_signed(store, path, stored_as.encode())
    withdraw(batch.batch)
    with pytest.raises(NothingAsOf):
        rows_as_of(wdbc, store, LATER)
    restore(batch.batch)
    assert len(rows_as_of(wdbc, store, LATER)) == 10


def test_without_an_audit_line_or_a_reason_nothing_is_withdrawn(
    store: Store, wdbc: Problem, make_file, lines
) -> None:
    batch = ingest_file(make_file("a.csv", range(10)), wdbc, store).document.batch

    def fail(_: BatchEvent) -> None:
        raise OSError(28, "No space left on device")

    call = partial(batch_decisions.decide_batch, wdbc, store, decision="withdrawn", actor="cli:ada")
    with pytest.raises(OSError, match="No space"):
        call(batch, reason="wrong", record=fail)
    for reason in ("", "  \n", "a\x1bb", "x" * 1001):
        with pytest.raises(ConfigError, match="needs one"):
            call(batch, reason=reason, record=lines.append)
    with pytest.raises(NotStored, match="batch list"):
        call("0123", reason="wrong", record=lines.append)
    assert not lines
    assert not is_withdrawn(store, batch)
    assert len(list_batches(store)) == 1


def test_a_row_keeps_its_side_when_the_first_record_of_its_sample_is_withdrawn(
    wdbc: Problem, store: Store, make_file, withdraw, restore
) -> None:
    first = ingest_file(make_file("a.csv", range(200), arrived="2026-01-01"), wdbc, store).document
    before = make_snapshot(wdbc, store, BEFORE)
    again = make_file("b.csv", range(200), arrived="2026-02-01", decimals=3)
    second = ingest_file(again, wdbc, store).document
    assert make_snapshot(wdbc, store, BEFORE).document == before.document
    withdraw(first.batch)

    assert make_snapshot(wdbc, store, BEFORE).document == before.document
    after = make_snapshot(wdbc, store, AT)

    assert after.batches == (second.batch,)
    old, new = (
        split(wdbc.split, load_dataset(wdbc, store, made.document.dataset), wdbc.near_twins)
        for made in (before, after)
    )
    assert (len(new.train), len(new.holdout)) == (len(old.train), len(old.holdout))
    assert np.allclose(np.sort(new.holdout.values[:, 3]), np.sort(old.holdout.values[:, 3]))
    assert new.holdout.keys != old.holdout.keys
    restore(first.batch)
    assert make_snapshot(wdbc, store, AT).document == after.document


def test_a_withdrawn_batch_may_be_damaged(wdbc: Problem, store: Store, make_file, withdraw) -> None:
    damaged = ingest_file(make_file("a.csv", range(10)), wdbc, store).document
    ingest_file(make_file("b.csv", range(10, 20)), wdbc, store)
    store.batch_rows(damaged.batch).write_bytes(b"?")
    withdraw(damaged.batch)

    assert len(rows_as_of(wdbc, store, AT)) == 10
