from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from bc_pipeline.artifacts.signed_document import write_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time, parse_time
from bc_pipeline.data import rows_as_of as rows_as_of_module
from bc_pipeline.data import snapshot
from bc_pipeline.data.batches import list_batches
from bc_pipeline.data.demo_feed import write_demo_feed
from bc_pipeline.data.ingest import ingest_file, ingest_landing
from bc_pipeline.data.rows import LabelledRows
from bc_pipeline.data.rows_as_of import rows_as_of
from bc_pipeline.data.snapshot import load_dataset, make_snapshot
from bc_pipeline.data.split import split
from bc_pipeline.errors import (
    ArtifactCorrupt,
    ConfigError,
    NothingAsOf,
    NotStored,
    SignatureInvalid,
    SplitOverlap,
)
from bc_pipeline.problems.base import Problem
from tests.volumes import new_store

NOW = datetime(2026, 11, 21, 11, 54, tzinfo=UTC)
SUNDAY = datetime(2026, 11, 15, tzinfo=UTC)
LATE = "2027-01-01"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory, wdbc: Problem) -> Store:
    """A volume with the whole demo feed ingested; copy it before you write to it."""
    store = new_store(tmp_path_factory.mktemp("fed"))
    write_demo_feed(wdbc, store, NOW)
    report = ingest_landing(wdbc, store)
    assert (len(report.batches), report.refused) == (53, ())
    return store


# As of -----------------------------------------------------------------------------------


def test_a_batch_counts_from_the_second_it_arrived(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(3), arrived="2026-02-01T06:00:00Z"), wdbc, store)

    with pytest.raises(NothingAsOf) as caught:
        rows_as_of(wdbc, store, "2026-02-01T05:59:59Z")

    assert caught.value.as_of == "2026-02-01T05:59:59Z"
    assert len(rows_as_of(wdbc, store, "2026-02-01T06:00:00Z")) == 3
    assert len(rows_as_of(wdbc, store, "2026-02-01T07:00:00+01:00")) == 3


def test_an_empty_volume_has_nothing_as_of_any_time(wdbc: Problem, store: Store) -> None:
    with pytest.raises(NothingAsOf):
        make_snapshot(wdbc, store, LATE)


def test_an_invalid_time_is_refused(wdbc: Problem, store: Store) -> None:
    with pytest.raises(ConfigError, match="next week"):
        rows_as_of(wdbc, store, "next week")


def test_rows_are_sorted_by_key_and_name_their_batches_by_arrival(
    wdbc: Problem, store: Store, make_file, public_rows
) -> None:
    later = ingest_file(make_file("a.csv", range(5), arrived="2026-03-01"), wdbc, store).document
    first = ingest_file(make_file("b.csv", range(5, 9), arrived="2026-02-01"), wdbc, store).document
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
    record = ingest_file(make_file("a.csv", range(5)), wdbc, store).document
    path = store.batch_rows(record.batch)
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    with pytest.raises(ArtifactCorrupt) as caught:
        rows_as_of(wdbc, store, LATE)

    assert caught.value.path == str(path)


def test_a_missing_batch_is_an_error(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(5)), wdbc, store)
    lost = ingest_file(make_file("b.csv", range(5, 9)), wdbc, store).document
    store.batch_rows(lost.batch).unlink()

    with pytest.raises(ArtifactCorrupt, match="is gone"):
        rows_as_of(wdbc, store, LATE)


def test_a_batch_that_arrives_later_may_be_damaged(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(5), arrived="2026-01-01"), wdbc, store)
    later = ingest_file(make_file("b.csv", range(5, 9), arrived="2026-02-01"), wdbc, store).document
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


def test_the_holdout_is_the_same_in_every_week(wdbc: Problem, fed: Store) -> None:
    parts = []
    for weeks in (53, 26, 0):
        made = make_snapshot(wdbc, fed, format_time(SUNDAY - timedelta(weeks=weeks)))
        parts.append(split(wdbc.split, load_dataset(wdbc, fed, made.document.dataset)))

    assert len({part.holdout.keys for part in parts}) == 1
    assert len(parts[0].train) < len(parts[1].train) < len(parts[2].train) == 459


def test_the_same_patients_from_kaggle_add_no_row(
    wdbc: Problem, fed: Store, tmp_path: Path, kaggle_file: Path
) -> None:
    shutil.copytree(fed.home, tmp_path / "copy")
    store = new_store(tmp_path / "copy")
    before = make_snapshot(wdbc, store, LATE)

    record = ingest_file(kaggle_file, wdbc, store).document
    after = make_snapshot(wdbc, store, LATE)

    assert (record.accepted, record.quarantined) == (569, 0)
    assert after.document == before.document
    assert set(after.batches) == {*before.batches, record.batch}


# Near-twins ------------------------------------------------------------------------------


def test_rows_that_arrive_again_at_another_precision_change_no_dataset(
    wdbc: Problem, store: Store, make_file
) -> None:
    ingest_file(make_file("a.csv", range(60), arrived="2026-02-01"), wdbc, store)
    before = make_snapshot(wdbc, store, LATE)
    ingest_file(make_file("b.csv", range(60), arrived="2026-03-01", decimals=3), wdbc, store)

    after = make_snapshot(wdbc, store, LATE)

    assert after.document == before.document
    assert (before.near_repeats, after.near_repeats, after.bridging) == (0, 60, 0)
    assert make_snapshot(wdbc, store, "2026-02-15").document == before.document


@pytest.mark.parametrize("arrived", ["2026-02-01", "2026-01-01", "2026-03-01"])
def test_a_copy_that_is_made_a_batch_later_changes_no_dataset_whenever_it_arrived(
    wdbc: Problem, store: Store, make_file, arrived: str
) -> None:
    ingest_file(make_file("a.csv", range(60), arrived="2026-02-01"), wdbc, store)
    before = make_snapshot(wdbc, store, LATE)
    rounded = make_file("b.csv", range(60), arrived=arrived, decimals=3)
    ingest_file(rounded, wdbc, store)

    assert make_snapshot(wdbc, store, LATE).document == before.document


def test_a_sample_has_one_side_as_of_any_time(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(200), arrived="2026-02-01"), wdbc, store)
    rounded = make_file("b.csv", range(200), arrived="2026-01-01", decimals=3)
    ingest_file(rounded, wdbc, store)

    early, late = (
        split(wdbc.split, load_dataset(wdbc, store, made.document.dataset), wdbc.near_twins)
        for made in (make_snapshot(wdbc, store, as_of) for as_of in ("2026-01-15", LATE))
    )

    assert early.holdout.keys != late.holdout.keys
    assert np.allclose(np.sort(early.holdout.values[:, 3]), np.sort(late.holdout.values[:, 3]))


def test_near_twins_that_an_earlier_release_accepted_count_once_with_the_first_label(
    wdbc: Problem, store: Store, make_file
) -> None:
    earlier_release = replace(wdbc, near_twins=None)
    cells = {(4, "diagnosis"): "B"}
    ingest_file(make_file("a.csv", range(9), arrived="2026-02-01"), earlier_release, store)
    first = make_snapshot(wdbc, store, LATE)
    rounded = make_file("b.csv", range(9), arrived="2026-03-01", decimals=3, cells=cells)
    ingest_file(rounded, earlier_release, store)

    made = make_snapshot(wdbc, store, LATE)

    assert made.document == first.document
    assert made.near_repeats == 9


def test_a_row_between_two_groups_is_in_neither(wdbc: Problem, store: Store, make_file) -> None:
    def stretched(name: str, factor: float, arrived: str) -> Path:
        path = make_file(name, range(1), arrived=arrived)
        header, line = path.read_text().splitlines()
        *cells, label = line.split(",")
        path.write_text(f"{header}\n{','.join(str(float(c) * factor) for c in cells)},{label}\n")
        os.utime(path, (parse_time(arrived).timestamp(),) * 2)
        return path

    for name, factor, arrived in (("a", 1.0, "2026-01-01"), ("b", 1.016, "2026-02-01")):
        ingest_file(stretched(f"{name}.csv", factor, arrived), wdbc, store)
    before = make_snapshot(wdbc, store, LATE)
    record = ingest_file(stretched("c.csv", 1.008, "2026-03-01"), wdbc, store).document

    after = make_snapshot(wdbc, store, LATE)

    assert before.document.rows == 2
    assert after.document == before.document
    assert (record.near_repeats, after.near_repeats, after.bridging) == (1, 1, 1)


def test_a_dataset_of_an_earlier_release_has_its_near_twins_on_no_side(
    wdbc: Problem, store: Store, make_file
) -> None:
    earlier_release = replace(wdbc, near_twins=None)
    ingest_file(make_file("a.csv", range(200)), earlier_release, store)
    ingest_file(make_file("b.csv", range(200), decimals=3), earlier_release, store)
    made = make_snapshot(earlier_release, store, LATE)
    assert (made.document.rows, made.document.near_twins) == (400, "")

    dataset = load_dataset(wdbc, store, made.document.dataset)
    parts = split(wdbc.split, dataset, wdbc.near_twins)

    assert len(dataset) == 400
    assert len(parts.train) + len(parts.holdout) == 200
    with pytest.raises(SplitOverlap):
        split(wdbc.split, replace(dataset, repeats=frozenset()), wdbc.near_twins)


# Datasets --------------------------------------------------------------------------------


def test_a_dataset_reads_back_as_its_rows(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(100), ids=[f"p{n}" for n in range(100)]), wdbc, store)
    rows = rows_as_of(wdbc, store, LATE)

    made = make_snapshot(wdbc, store, LATE)
    dataset = load_dataset(wdbc, store, made.document.dataset)

    assert (dataset.digest, dataset.keys, dataset.ids) == (
        made.document.dataset,
        rows.keys,
        rows.ids,
    )
    assert dataset.values.tobytes() == rows.values.tobytes()
    assert dataset.positive.tolist() == [int(code == 0) for code in rows.codes]
    assert made.document.rows == len(dataset) == 100
    assert made.document.positive_rows == int(dataset.positive.sum())
    assert made.document.dataset == made.document.sha256[:16]
    assert made.batches == rows.batches


def test_the_same_rows_at_two_times_are_one_dataset(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(5), arrived="2026-01-01"), wdbc, store)
    first = make_snapshot(wdbc, store, "2026-01-15")
    written = files(store.datasets)
    ingest_file(make_file("b.csv", [4], ids=["x"], arrived="2026-02-01"), wdbc, store)

    second = make_snapshot(wdbc, store, "2026-02-15")

    assert second.document == first.document
    assert second.batches != first.batches
    assert files(store.datasets) == written


def test_other_rows_are_another_dataset(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(5), arrived="2026-01-01"), wdbc, store)
    ingest_file(make_file("b.csv", range(4, 6), arrived="2026-02-01"), wdbc, store)

    names = {make_snapshot(wdbc, store, t).document.dataset for t in ("2026-01-15", "2026-02-15")}

    assert len(names) == 2


def test_the_order_of_ingest_does_not_matter(
    wdbc: Problem, store: Store, make_file, tmp_path: Path
) -> None:
    paths = [
        make_file("a.csv", range(5), arrived="2026-03-01"),
        make_file("b.csv", range(3, 9), ids=list("defghi"), arrived="2026-02-01"),
        make_file("c.csv", range(7, 12), ids=list("klmno"), arrived="2026-02-01"),
    ]
    outcomes = set()
    for number, order in enumerate(permutations(paths)):
        other = new_store(tmp_path / str(number), keys_of=store)
        for path in order:
            ingest_file(path, wdbc, other)
        made = make_snapshot(wdbc, other, LATE)
        outcomes.add((made.document, made.batches, tuple(files(other.datasets).items())))

    assert len(outcomes) == 1


def test_a_run_killed_before_the_document_makes_no_dataset_and_a_rerun_succeeds(
    wdbc: Problem, store: Store, make_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest_file(make_file("a.csv", range(5)), wdbc, store)
    with monkeypatch.context() as killed:

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        killed.setattr(snapshot, "write_signed_document", die)
        with pytest.raises(KeyboardInterrupt):
            make_snapshot(wdbc, store, LATE)
    (orphan,) = files(store.datasets)
    assert orphan.endswith(".parquet")
    with pytest.raises(NotStored):
        load_dataset(wdbc, store, orphan.removesuffix(".parquet"))

    made = make_snapshot(wdbc, store, LATE)

    assert len(load_dataset(wdbc, store, made.document.dataset)) == 5


def test_an_unknown_dataset_is_not_stored(wdbc: Problem, store: Store) -> None:
    with pytest.raises(NotStored, match="0123456789abcdef"):
        load_dataset(wdbc, store, "0123456789abcdef")


def test_a_damaged_dataset_is_neither_loaded_nor_reused(
    wdbc: Problem, store: Store, make_file
) -> None:
    ingest_file(make_file("a.csv", range(5)), wdbc, store)
    name = make_snapshot(wdbc, store, LATE).document.dataset
    path = store.dataset_rows(name)
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    for use in (lambda: load_dataset(wdbc, store, name), lambda: make_snapshot(wdbc, store, LATE)):
        with pytest.raises(ArtifactCorrupt):
            use()


def test_a_dataset_under_the_name_of_another_is_corrupt(
    wdbc: Problem, store: Store, make_file
) -> None:
    ingest_file(make_file("a.csv", range(5), arrived="2026-01-01"), wdbc, store)
    ingest_file(make_file("b.csv", range(5, 9), arrived="2026-02-01"), wdbc, store)
    small, large = (
        make_snapshot(wdbc, store, time).document for time in ("2026-01-15", "2026-02-15")
    )
    # The rows and their digest are exchanged together: only the name of the dataset differs.
    shutil.copy(store.dataset_rows(small.dataset), store.dataset_rows(large.dataset))
    record = store.dataset_document(large.dataset)
    other = record.read_text().replace(large.parquet_sha256, small.parquet_sha256)
    write_signed(store, record, other.encode())

    with pytest.raises(ArtifactCorrupt, match="not those of its digest"):
        load_dataset(wdbc, store, large.dataset)
    data = store.dataset_document(small.dataset).read_bytes()
    write_signed(store, record, data)
    with pytest.raises(ArtifactCorrupt, match="not those of its digest"):
        load_dataset(wdbc, store, large.dataset)
    # The signature of one dataset is none of the other.
    for signature in store.datasets.glob(f"{record.name}.*.sig"):
        signature.unlink()
    (signature,) = store.datasets.glob(f"{small.dataset}.json.*.sig")
    shutil.copy(signature, store.datasets / signature.name.replace(small.dataset, large.dataset))
    with pytest.raises(SignatureInvalid, match=large.dataset):
        load_dataset(wdbc, store, large.dataset)


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of rows that are read and decoded from now on."""
    paths: list[Path] = []
    read_rows = snapshot.read_rows

    # Batches are read by one module, datasets by the other.
    def read(problem: Problem, path: Path, sha256: str) -> LabelledRows:
        paths.append(path)
        return read_rows(problem, path, sha256)

    for module in (rows_as_of_module, snapshot):
        monkeypatch.setattr(module, "read_rows", read)
    return paths


def test_a_process_reads_batches_and_a_dataset_once(
    wdbc: Problem, store: Store, make_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ingest_file(make_file("a.csv", range(5), arrived="2026-01-01"), wdbc, store).document
    two = ingest_file(make_file("b.csv", range(5, 9), arrived="2026-02-01"), wdbc, store).document
    reads = count_reads(monkeypatch)

    rows = rows_as_of(wdbc, store, LATE)
    made = make_snapshot(wdbc, store, LATE)
    dataset = load_dataset(wdbc, store, made.document.dataset)
    again = make_snapshot(wdbc, store, LATE)

    assert again == made
    assert load_dataset(wdbc, store, made.document.dataset) is dataset
    assert reads == [
        *(store.batch_rows(batch.batch) for batch in (one, two)),
        store.dataset_rows(made.document.dataset),
    ]
    for array in (rows.values, rows.codes, dataset.values, dataset.positive):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


@pytest.mark.parametrize("kind", ["rows", "document"])
def test_a_dataset_that_changed_since_is_verified_again(
    kind: str, wdbc: Problem, store: Store, make_file
) -> None:
    ingest_file(make_file("a.csv", range(5)), wdbc, store)
    name = make_snapshot(wdbc, store, LATE).document.dataset
    load_dataset(wdbc, store, name)
    path = store.dataset_rows(name) if kind == "rows" else store.dataset_document(name)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)

    with pytest.raises(ArtifactCorrupt if kind == "rows" else SignatureInvalid, match=path.name):
        load_dataset(wdbc, store, name)
    path.unlink()
    with pytest.raises((ArtifactCorrupt, NotStored)):
        load_dataset(wdbc, store, name)


def test_batches_that_changed_since_are_verified_again(
    wdbc: Problem, store: Store, make_file
) -> None:
    batch = ingest_file(make_file("a.csv", range(5)), wdbc, store).document
    rows_as_of(wdbc, store, LATE)
    path = store.batch_rows(batch.batch)
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(ArtifactCorrupt):
        rows_as_of(wdbc, store, LATE)


def test_an_invalid_batch_document_is_corrupt(wdbc: Problem, store: Store, make_file) -> None:
    record = ingest_file(make_file("a.csv", range(5)), wdbc, store).document
    write_signed(store, store.batch_document(record.batch), b"{}")

    with pytest.raises(ArtifactCorrupt):
        list_batches(store)
