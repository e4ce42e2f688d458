from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest

from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time
from bc_pipeline.data import snapshot
from bc_pipeline.data.batches import list_batches
from bc_pipeline.data.feed import write_demo_feed
from bc_pipeline.data.ingest import ingest_file, ingest_landing
from bc_pipeline.data.snapshot import load_dataset, make_snapshot, rows_as_of
from bc_pipeline.data.split import split
from bc_pipeline.errors import ArtifactCorrupt, ConfigError, NothingAsOf, NotStored
from bc_pipeline.problems.base import Problem

NOW = datetime(2026, 11, 21, 11, 54, tzinfo=UTC)
SUNDAY = datetime(2026, 11, 15, tzinfo=UTC)
LATE = "2027-01-01"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory, wdbc: Problem) -> Store:
    """A volume with the whole demo feed ingested; copy it before you write to it."""
    store = Store(tmp_path_factory.mktemp("fed"), "wdbc")
    write_demo_feed(wdbc, store, NOW)
    report = ingest_landing(wdbc, store)
    assert (len(report.added), report.refused) == (53, ())
    return store


# As of -----------------------------------------------------------------------------------


def test_a_batch_is_seen_from_the_very_second_it_arrived(
    wdbc: Problem, store: Store, make_file
) -> None:
    ingest_file(make_file("a.csv", range(3), arrived="2026-02-01T06:00:00Z"), wdbc, store)

    with pytest.raises(NothingAsOf) as caught:
        rows_as_of(wdbc, store, "2026-02-01T05:59:59Z")

    assert caught.value.as_of == "2026-02-01T05:59:59Z"
    assert len(rows_as_of(wdbc, store, "2026-02-01T06:00:00Z")) == 3
    assert len(rows_as_of(wdbc, store, "2026-02-01T07:00:00+01:00")) == 3


def test_an_empty_volume_has_nothing_as_of_any_time(wdbc: Problem, store: Store) -> None:
    with pytest.raises(NothingAsOf):
        make_snapshot(wdbc, store, LATE)


def test_a_time_that_is_none_is_named(wdbc: Problem, store: Store) -> None:
    with pytest.raises(ConfigError, match="next week"):
        rows_as_of(wdbc, store, "next week")


def test_rows_are_sorted_by_key_and_name_their_batches_by_arrival(
    wdbc: Problem, store: Store, make_file, public_rows
) -> None:
    later = ingest_file(make_file("a.csv", range(5), arrived="2026-03-01"), wdbc, store)
    first = ingest_file(make_file("b.csv", range(5, 9), arrived="2026-02-01"), wdbc, store)
    ingest_file(make_file("c.csv", range(9, 12), arrived="2026-04-01"), wdbc, store)

    rows = rows_as_of(wdbc, store, "2026-03-31")

    assert rows.batches == (first.batch, later.batch)
    assert rows.as_of == "2026-03-31T00:00:00Z"
    assert rows.keys == tuple(sorted(public_rows.keys[:9]))
    labels = dict(zip(public_rows.keys, public_rows.codes.tolist(), strict=True))
    assert rows.codes.tolist() == [labels[key] for key in rows.keys]


def test_a_row_of_several_batches_counts_once_with_the_first_id_known(
    wdbc: Problem, store: Store, make_file
) -> None:
    ingest_file(make_file("a.csv", [0, 1], arrived="2026-01-01"), wdbc, store)
    ingest_file(make_file("b.csv", [1], ids=["late"], arrived="2026-03-01"), wdbc, store)
    ingest_file(make_file("c.csv", [1], ids=["early"], arrived="2026-02-01"), wdbc, store)

    rows = rows_as_of(wdbc, store, LATE)

    assert len(rows) == 2
    assert sorted(rows.ids) == ["", "early"]


def test_a_damaged_batch_is_not_used(wdbc: Problem, store: Store, make_file) -> None:
    record = ingest_file(make_file("a.csv", range(5)), wdbc, store)
    path = store.batch_rows(record.batch)
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    with pytest.raises(ArtifactCorrupt) as caught:
        rows_as_of(wdbc, store, LATE)

    assert caught.value.path == str(path)


def test_a_lost_batch_is_not_passed_over(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(5)), wdbc, store)
    lost = ingest_file(make_file("b.csv", range(5, 9)), wdbc, store)
    store.batch_rows(lost.batch).unlink()

    with pytest.raises(ArtifactCorrupt, match="is gone"):
        rows_as_of(wdbc, store, LATE)


def test_a_batch_that_arrives_later_may_be_damaged(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(5), arrived="2026-01-01"), wdbc, store)
    later = ingest_file(make_file("b.csv", range(5, 9), arrived="2026-02-01"), wdbc, store)
    store.batch_rows(later.batch).unlink()

    assert len(rows_as_of(wdbc, store, "2026-01-31")) == 5


# The demo feed ---------------------------------------------------------------------------


def test_the_feed_grows_week_by_week_to_the_public_rows(
    wdbc: Problem, fed: Store, public_rows
) -> None:
    def size(weeks_ago: int) -> int:
        return len(rows_as_of(wdbc, fed, format_time(SUNDAY - timedelta(weeks=weeks_ago))))

    base = size(53)
    assert size(52) == base
    for weeks_ago in (51, 50, 26, 25, 2, 1):
        assert base < size(weeks_ago) < size(weeks_ago - 1)
    assert rows_as_of(wdbc, fed, format_time(SUNDAY)).keys == tuple(sorted(public_rows.keys))
    with pytest.raises(NothingAsOf):
        rows_as_of(wdbc, fed, format_time(SUNDAY - timedelta(weeks=53, seconds=1)))


def test_the_holdout_is_the_same_all_year(wdbc: Problem, fed: Store) -> None:
    parts = []
    for weeks in (53, 26, 0):
        made = make_snapshot(wdbc, fed, format_time(SUNDAY - timedelta(weeks=weeks)))
        parts.append(split(wdbc, load_dataset(wdbc, fed, made.record.dataset)))

    assert len({part.holdout.keys for part in parts}) == 1
    assert len(parts[0].train) < len(parts[1].train) < len(parts[2].train) == 459


def test_the_same_patients_from_kaggle_add_no_row(
    wdbc: Problem, fed: Store, tmp_path: Path, kaggle_file: Path
) -> None:
    shutil.copytree(fed.home, tmp_path / "copy")
    store = Store(tmp_path / "copy", "wdbc")
    before = make_snapshot(wdbc, store, LATE)

    record = ingest_file(kaggle_file, wdbc, store)
    after = make_snapshot(wdbc, store, LATE)

    assert (record.accepted, record.quarantined) == (569, 0)
    assert after.record == before.record
    assert set(after.batches) == {*before.batches, record.batch}


# Datasets --------------------------------------------------------------------------------


def test_a_dataset_reads_back_as_its_rows(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(100), ids=[f"p{n}" for n in range(100)]), wdbc, store)
    rows = rows_as_of(wdbc, store, LATE)

    made = make_snapshot(wdbc, store, LATE)
    dataset = load_dataset(wdbc, store, made.record.dataset)

    assert (dataset.digest, dataset.keys, dataset.ids) == (made.record.dataset, rows.keys, rows.ids)
    assert dataset.values.tobytes() == rows.values.tobytes()
    assert dataset.positive.tolist() == [int(code == 0) for code in rows.codes]
    assert made.record.rows == len(dataset) == 100
    assert made.record.positive_rows == int(dataset.positive.sum())
    assert made.record.dataset == made.record.sha256[:16]
    assert made.batches == rows.batches


def test_the_same_rows_at_two_times_are_one_dataset(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(5), arrived="2026-01-01"), wdbc, store)
    first = make_snapshot(wdbc, store, "2026-01-15")
    written = files(store.datasets)
    ingest_file(make_file("b.csv", [4], ids=["x"], arrived="2026-02-01"), wdbc, store)

    second = make_snapshot(wdbc, store, "2026-02-15")

    assert second.record == first.record
    assert second.batches != first.batches
    assert (first.as_of, second.as_of) == ("2026-01-15T00:00:00Z", "2026-02-15T00:00:00Z")
    assert files(store.datasets) == written


def test_other_rows_are_another_dataset(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(5), arrived="2026-01-01"), wdbc, store)
    ingest_file(make_file("b.csv", range(4, 6), arrived="2026-02-01"), wdbc, store)

    names = {make_snapshot(wdbc, store, t).record.dataset for t in ("2026-01-15", "2026-02-15")}

    assert len(names) == 2


def test_the_order_of_ingest_does_not_matter(wdbc: Problem, make_file, tmp_path: Path) -> None:
    paths = [
        make_file("a.csv", range(5), arrived="2026-03-01"),
        make_file("b.csv", range(3, 9), ids=list("defghi"), arrived="2026-02-01"),
        make_file("c.csv", range(7, 12), ids=list("klmno"), arrived="2026-02-01"),
    ]
    outcomes = set()
    for number, order in enumerate(permutations(paths)):
        store = Store(tmp_path / str(number), "wdbc")
        for path in order:
            ingest_file(path, wdbc, store)
        made = make_snapshot(wdbc, store, LATE)
        outcomes.add((made.record, made.batches, tuple(files(store.datasets).items())))

    assert len(outcomes) == 1


def test_a_run_killed_before_the_record_made_no_dataset_and_a_rerun_converges(
    wdbc: Problem, store: Store, make_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest_file(make_file("a.csv", range(5)), wdbc, store)
    with monkeypatch.context() as killed:

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        killed.setattr(snapshot, "write_record", die)
        with pytest.raises(KeyboardInterrupt):
            make_snapshot(wdbc, store, LATE)
    (orphan,) = files(store.datasets)
    assert orphan.endswith(".parquet")
    with pytest.raises(NotStored):
        load_dataset(wdbc, store, orphan.removesuffix(".parquet"))

    made = make_snapshot(wdbc, store, LATE)

    assert len(load_dataset(wdbc, store, made.record.dataset)) == 5


def test_an_unknown_dataset_is_not_stored(wdbc: Problem, store: Store) -> None:
    with pytest.raises(NotStored, match="0123456789abcdef"):
        load_dataset(wdbc, store, "0123456789abcdef")


def test_a_damaged_dataset_is_neither_loaded_nor_taken_for_made(
    wdbc: Problem, store: Store, make_file
) -> None:
    ingest_file(make_file("a.csv", range(5)), wdbc, store)
    name = make_snapshot(wdbc, store, LATE).record.dataset
    path = store.dataset_rows(name)
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    for use in (lambda: load_dataset(wdbc, store, name), lambda: make_snapshot(wdbc, store, LATE)):
        with pytest.raises(ArtifactCorrupt):
            use()


def test_a_dataset_under_a_name_that_is_not_its_own_is_corrupt(
    wdbc: Problem, store: Store, make_file
) -> None:
    ingest_file(make_file("a.csv", range(5), arrived="2026-01-01"), wdbc, store)
    ingest_file(make_file("b.csv", range(5, 9), arrived="2026-02-01"), wdbc, store)
    small, large = (
        make_snapshot(wdbc, store, time).record for time in ("2026-01-15", "2026-02-15")
    )
    # The rows and their digest are exchanged together: only the dataset's name tells.
    shutil.copy(store.dataset_rows(small.dataset), store.dataset_rows(large.dataset))
    record = store.dataset_record(large.dataset)
    record.write_text(record.read_text().replace(large.parquet_sha256, small.parquet_sha256))

    with pytest.raises(ArtifactCorrupt, match="not those that its name stands for"):
        load_dataset(wdbc, store, large.dataset)
    shutil.copy(store.dataset_record(small.dataset), record)
    with pytest.raises(ArtifactCorrupt, match="not those that its name stands for"):
        load_dataset(wdbc, store, large.dataset)


def test_a_batch_record_that_is_no_record_is_corrupt(
    wdbc: Problem, store: Store, make_file
) -> None:
    record = ingest_file(make_file("a.csv", range(5)), wdbc, store)
    store.batch_record(record.batch).write_text("{}")

    with pytest.raises(ArtifactCorrupt):
        list_batches(store)
