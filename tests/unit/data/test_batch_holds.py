from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import parse_time
from bc_pipeline.data.batch_decisions import decide_batch
from bc_pipeline.data.batch_history import batch_state, counting_batches, read_history
from bc_pipeline.data.batch_holds import check_new_batches
from bc_pipeline.data.batches import list_batches
from bc_pipeline.data.ingest import ingest_file
from bc_pipeline.data.snapshot import load_dataset, make_snapshot
from bc_pipeline.problems.base import Problem

NOW = "2026-11-30T00:00:00Z"


@pytest.fixture
def land(wdbc: Problem, store: Store, make_file):
    """Ingest rows as a batch that needs a check."""

    def call(name: str, rows, arrived: str = "2026-11-01T00:00:00Z", **options) -> str:
        path = make_file(name, rows, arrived=arrived, **options)
        return ingest_file(path, wdbc, store, needs_check=True).document.batch

    return call


@pytest.fixture
def held() -> list[str]:
    return []


@pytest.fixture
def check(wdbc: Problem, store: Store, held):
    return lambda champion=None: check_new_batches(
        wdbc, store, champion, lambda batch, _: held.append(batch)
    )


@pytest.fixture
def malignant(reference) -> list[int]:
    return np.flatnonzero(reference[1] == 0).tolist()


def mixed(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).permutation(569)[:count].tolist()


def counting(store: Store, as_of: str = NOW) -> set[str]:
    return {batch.batch for _, batch in counting_batches(store, parse_time(as_of))}


def states(store: Store) -> dict[str, str]:
    return {
        one.batch: batch_state(one, read_history(store, one.batch)) for one in list_batches(store)
    }


def test_a_new_batch_counts_once_it_passed_and_not_before(land, check, store: Store) -> None:
    batch = land("a.csv", mixed(60))
    assert counting(store) == set()
    assert states(store) == {batch: "not checked"}
    assert [one.verdict for one in check()] == ["passed"]
    assert counting(store) == {batch}
    assert check() == []


def test_a_batch_of_malignant_rows_is_held_from_its_arrival_on(
    land, check, held, store: Store, malignant
) -> None:
    good, bad = land("a.csv", mixed(60)), land("b.csv", malignant[:60], "2026-11-08T00:00:00Z")
    assert {one.batches: one.verdict for one in check()} == {(good,): "passed", (bad,): "held"}
    assert held == [bad]
    history = read_history(store, bad)
    assert history.check.findings[0].test == "share of positive labels"
    assert history.check.findings[0].p < history.check.level
    for as_of in ("2026-11-08T00:00:00Z", NOW):
        assert counting(store, as_of) == {good}


def test_small_batches_count_and_are_judged_together(
    land, check, held, store: Store, malignant
) -> None:
    weeks = [
        land(f"{week}.csv", malignant[week * 8 : week * 8 + 8], f"2026-11-0{week + 1}T00:00:00Z")
        for week in range(3)
    ]
    assert [(one.verdict, one.rows) for one in check()] == [("too few rows", 24)]
    assert counting(store) == set(weeks)
    before = counting(store, "2026-11-03T12:00:00Z")
    weeks.append(land("3.csv", malignant[24:32], "2026-11-04T00:00:00Z"))
    (judged,) = check()
    assert (judged.verdict, judged.batches, judged.rows) == ("held", tuple(weeks), 32)
    assert held == weeks
    assert counting(store) == set()
    # Snapshots as of times before the last of them stay what they were.
    assert counting(store, "2026-11-03T12:00:00Z") == before == set(weeks[:3])


@pytest.mark.parametrize("at_once", [True, False])
def test_a_copy_of_a_held_batch_is_held_too(
    at_once: bool, land, check, store: Store, malignant
) -> None:
    good, bad = land("a.csv", mixed(60)), land("b.csv", malignant[:60], "2026-11-08T00:00:00Z")
    if not at_once:
        check()
    # The same rows in another order are another file.
    copy = land("copy.csv", malignant[:60][::-1], "2026-11-09T00:00:00Z")
    judged = {one.batches: one.verdict for one in check()}
    assert judged[(copy,)] == "held"
    assert states(store) == {good: "counts", bad: "held", copy: "held"}
    assert counting(store) == {good}


def test_a_hold_that_is_deleted_lets_nothing_count(
    wdbc: Problem, land, check, store: Store, malignant
) -> None:
    batch = land("b.csv", malignant[:60])
    check()
    store.batch_history(batch).unlink()
    assert counting(store) == set()
    check()
    assert states(store) == {batch: "held"}


def test_only_a_decision_lets_a_held_batch_count_and_from_then_on(
    wdbc: Problem, land, check, store: Store, malignant
) -> None:
    one, other = land("a.csv", malignant[:60]), land("b.csv", malignant[60:120])
    check()
    lines = []
    decide = {"actor": "cli:ada", "reason": "a referral clinic", "record": lines.append}
    event = decide_batch(wdbc, store, one, "accepted", **decide)
    assert lines == [event]
    assert decide_batch(wdbc, store, one, "accepted", **decide) is None
    decide_batch(wdbc, store, other, "withdrawn", **decide)
    assert states(store) == {one: "accepted", other: "withdrawn"}
    assert counting(store, event.at) == {one}
    assert counting(store, "2026-11-30T00:00:00Z") == set()
    assert check() == []


def test_the_champions_rows_are_the_reference_without_the_batchs_own(
    wdbc: Problem, land, check, store: Store, make_file, malignant
) -> None:
    everything = ingest_file(make_file("all.csv", range(569)), wdbc, store).document
    dataset = make_snapshot(wdbc, store, NOW).document.dataset
    land("again.csv", malignant[:60])
    # Rows that repeat known ones add nothing.
    assert [(one.verdict, one.rows) for one in check(load_dataset(wdbc, store, dataset))] == [
        ("too few rows", 0)
    ]
    assert everything.batch in counting(store)


def test_rows_of_the_champion_come_first(
    wdbc: Problem, land, check, store: Store, make_file, malignant, reference
) -> None:
    benign = np.flatnonzero(reference[1] == 1).tolist()
    ingest_file(make_file("old.csv", malignant[:150] + benign[:40]), wdbc, store)
    dataset = make_snapshot(wdbc, store, NOW).document.dataset
    land("new.csv", malignant[150:200] + benign[50:62])
    (judged,) = check(load_dataset(wdbc, store, dataset))
    # As many malignant rows as among the champion's, and far more than among the public rows.
    assert (judged.reference, judged.verdict) == (dataset, "passed")


def test_a_problem_without_a_policy_checks_nothing(wdbc: Problem, land, store: Store) -> None:
    land("a.csv", mixed(60))
    assert check_new_batches(replace(wdbc, batch_check=None), store, None, lambda *_: None) == []
