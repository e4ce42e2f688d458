from __future__ import annotations

import csv
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bc_pipeline.artifacts.files import sha256_bytes, sha256_file
from bc_pipeline.artifacts.signed_document import write_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data import batch_storage, labelled_file
from bc_pipeline.data.batches import BatchDocument, list_batches, read_batch
from bc_pipeline.data.ingest import ingest_file, ingest_landing
from bc_pipeline.data.rows_as_of import rows_as_of
from bc_pipeline.errors import ConfigError, FileRefused, LabelsRefused, RowsRejected, SchemaMismatch
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem
from tests.volumes import new_store


def quarantined(store: Store, record: BatchDocument) -> list[dict[str, str]]:
    with store.quarantined(record.batch).open(newline="") as stream:
        return list(csv.DictReader(stream))


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


# One file --------------------------------------------------------------------------------


def test_a_clean_file_is_a_batch_named_by_its_bytes(wdbc: Problem, store: Store, make_file) -> None:
    path = make_file("clinic.csv", range(20), ids=[f"p{n}" for n in range(20)])

    record = ingest_file(path, wdbc, store).document

    assert (record.read, record.accepted, record.quarantined) == (20, 20, 0)
    assert record.source == "clinic.csv"
    assert record.source_sha256 == sha256_file(path)
    assert record.batch == record.source_sha256[:16]
    assert record.arrived_at == "2026-11-01T00:00:00Z"
    assert record.dialect == "canonical"
    assert (record.reasons, record.problems) == ({}, ())
    assert not store.quarantined(record.batch).exists()
    assert record.parquet_sha256 == sha256_bytes(store.batch_rows(record.batch).read_bytes())
    assert list_batches(store) == [record]


def test_accepted_rows_are_stored_exactly_and_in_order(
    wdbc: Problem, store: Store, make_file, public_rows
) -> None:
    record = ingest_file(make_file("a.csv", [7, 3, 500], ids=["x", "y", "z"]), wdbc, store).document

    rows = read_batch(wdbc, store, record)

    wanted = public_rows.take([7, 3, 500])
    assert (rows.keys, rows.ids) == (wanted.keys, ("x", "y", "z"))
    assert rows.values.tobytes() == wanted.values.tobytes()
    assert rows.codes.tolist() == wanted.codes.tolist()


def test_negative_zero_is_stored_as_zero(
    wdbc: Problem, store: Store, make_file, public_rows
) -> None:
    column = wdbc.schema.names.index("mean_concavity")
    smooth = int((public_rows.values[:, column] == 0).argmax())
    names = ["mean_concavity", "mean_concave_points"]
    plain = ingest_file(make_file("a.csv", [smooth]), wdbc, store).document
    signed = make_file("b.csv", [smooth], cells={(0, name): "-0.0" for name in names})

    record = ingest_file(signed, wdbc, store).document

    assert record.batch != plain.batch
    assert record.parquet_sha256 == plain.parquet_sha256


def test_rows_without_an_id_have_an_empty_one(wdbc: Problem, store: Store, make_file) -> None:
    record = ingest_file(make_file("a.csv", range(3)), wdbc, store).document

    assert read_batch(wdbc, store, record).ids == ("", "", "")


def test_bad_rows_go_to_quarantine_with_line_column_and_reason(
    wdbc: Problem, store: Store, make_file
) -> None:
    path = make_file(
        "a.csv",
        range(6),
        ids=["p0", "p1", "p2", "p3", "p4", "p5"],
        cells={
            (1, "mean_radius"): "",
            (1, "mean_area"): "many",
            (3, "diagnosis"): "X",
            (4, "mean_texture"): "-5",
        },
    )

    record = ingest_file(path, wdbc, store).document

    assert (record.read, record.accepted, record.quarantined) == (6, 3, 3)
    assert read_batch(wdbc, store, record).ids == ("p0", "p2", "p5")
    rows = quarantined(store, record)
    assert [(row["line"], row["id"], row["column"]) for row in rows] == [
        ("3", "p1", "mean_radius"),
        ("3", "p1", "mean_area"),
        ("5", "p3", "diagnosis"),
        ("6", "p4", "mean_texture"),
    ]
    assert all(row["reason"] for row in rows)
    assert [(p.line, p.column, p.reason) for p in record.problems] == [
        (int(row["line"]), row["column"], row["reason"]) for row in rows
    ]
    assert set(record.reasons) == {row["reason"] for row in rows}
    assert path.exists()


def test_defects_keep_their_lines_in_a_file_of_many_blocks(
    wdbc: Problem, store: Store, make_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        labelled_file, "open_table", partial(labelled_file.open_table, block_bytes=2048)
    )
    bad = [5, 100, 101, 560]
    path = make_file("a.csv", range(569), cells={(row, "mean_radius"): "" for row in bad})

    record = ingest_file(path, wdbc, store).document

    assert [int(row["line"]) for row in quarantined(store, record)] == [row + 2 for row in bad]
    assert record.accepted == 565


def test_a_reason_counts_rows_not_cells(wdbc: Problem, store: Store, make_file) -> None:
    cells = {(row, name): "" for row in (0, 2) for name in ("mean_radius", "mean_texture")}

    record = ingest_file(make_file("a.csv", range(4), cells=cells), wdbc, store).document

    assert list(record.reasons.values()) == [2]
    assert len(record.problems) == 4


def test_the_document_lists_a_hundred_defects_and_the_quarantine_file_all(
    wdbc: Problem, store: Store, make_file
) -> None:
    cells = {(row, "mean_radius"): "" for row in range(120)}

    record = ingest_file(make_file("a.csv", range(130), cells=cells), wdbc, store).document

    assert len(record.problems) == 100
    assert len(quarantined(store, record)) == record.quarantined == 120


def test_ids_in_the_quarantine_file_are_not_formulas(
    wdbc: Problem, store: Store, make_file
) -> None:
    path = make_file("a.csv", range(2), ids=["=1+1", "ok"], cells={(0, "mean_radius"): ""})

    record = ingest_file(path, wdbc, store).document

    assert quarantined(store, record)[0]["id"].startswith("'")


def test_a_file_without_a_good_row_makes_no_batch(wdbc: Problem, store: Store, make_file) -> None:
    path = make_file("a.csv", range(3), cells={(row, "diagnosis"): "?" for row in range(3)})

    with pytest.raises(RowsRejected) as caught:
        ingest_file(path, wdbc, store)

    quarantine = store.quarantined(sha256_file(path)[:16])
    assert quarantine.exists()
    assert str(quarantine) in str(caught.value)
    assert "(3 rows: 3 x diagnosis: is not malignant or benign)" in str(caught.value)
    assert caught.value.read == 3
    assert list_batches(store) == []
    assert stored(store.batches) == {}


@pytest.mark.parametrize("damage", ["name", "column", "empty"])
def test_a_refused_file_leaves_nothing(wdbc: Problem, store: Store, make_file, damage: str) -> None:
    path = make_file("a.csv", range(3))
    text = path.read_text()
    if damage == "name":
        path.write_text(text.replace("mean_radius", "mean_rodius"))
    elif damage == "column":
        path.write_text("\n".join(line.split(",", 1)[1] for line in text.splitlines()))
    else:
        path.write_text("")

    with pytest.raises((FileRefused, SchemaMismatch)):
        ingest_file(path, wdbc, store)

    assert stored(store.batches) == {}
    assert stored(store.data / "quarantine") == {}


def test_a_missing_file_is_refused(wdbc: Problem, store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"gone\.csv cannot be opened: No such"):
        ingest_file(tmp_path / "gone.csv", wdbc, store)


def test_a_file_that_grows_while_it_is_read_is_refused(
    wdbc: Problem, store: Store, make_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_file("a.csv", range(3))
    more = make_file("b.csv", range(3, 5)).read_text().split("\n", 1)[1]
    real = labelled_file.open_table

    def grow_first(*args):
        with path.open("a") as stream:
            stream.write(more)
        return real(*args)

    monkeypatch.setattr(labelled_file, "open_table", grow_first)

    with pytest.raises(FileRefused, match="changed while it was read"):
        ingest_file(path, wdbc, store)
    assert stored(store.batches) == {}


def test_arrival_can_be_given(wdbc: Problem, store: Store, make_file) -> None:
    record = ingest_file(
        make_file("a.csv", range(3)), wdbc, store, arrived_at=datetime(2025, 5, 4, 3, tzinfo=UTC)
    ).document

    assert record.arrived_at == "2025-05-04T03:00:00Z"


# The same file, the same bytes -----------------------------------------------------------


def test_the_same_bytes_under_another_name_are_the_same_batch(
    wdbc: Problem, store: Store, make_file
) -> None:
    first = ingest_file(make_file("a.csv", range(5)), wdbc, store).document
    before = stored(store.batches)

    again = ingest_file(make_file("b.csv", range(5), arrived="2026-11-09"), wdbc, store).document

    assert again == first
    assert stored(store.batches) == before


def test_two_volumes_hold_the_same_bytes(
    wdbc: Problem, store: Store, make_file, tmp_path: Path
) -> None:
    path = make_file("a.csv", range(9), cells={(4, "diagnosis"): ""})
    other = new_store(tmp_path / "other", keys_of=store)

    ingest_file(path, wdbc, store)
    ingest_file(path, wdbc, other)

    assert stored(store.batches) == stored(other.batches)
    assert stored(store.data / "quarantine") == stored(other.data / "quarantine")


def test_a_run_killed_before_the_document_makes_no_batch_and_a_rerun_succeeds(
    wdbc: Problem, store: Store, make_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_file("a.csv", range(9), cells={(4, "diagnosis"): ""})
    undisturbed = new_store(tmp_path / "other", keys_of=store)
    ingest_file(path, wdbc, undisturbed)

    with monkeypatch.context() as killed:

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        killed.setattr(batch_storage, "write_signed_document", die)
        with pytest.raises(KeyboardInterrupt):
            ingest_file(path, wdbc, store)
    assert [name.rpartition(".")[2] for name in stored(store.batches)] == ["parquet"]
    assert list_batches(store) == []

    ingest_file(path, wdbc, store)

    assert stored(store.batches) == stored(undisturbed.batches)


def test_the_quarantine_file_of_a_killed_run_is_replaced(
    wdbc: Problem, store: Store, make_file
) -> None:
    path = make_file("a.csv", range(3))
    stale = store.quarantined(sha256_file(path)[:16])
    stale.parent.mkdir(parents=True)
    stale.write_text("line,id,column,reason\n")

    ingest_file(path, wdbc, store)

    assert not stale.exists()


# Rows beside rows ------------------------------------------------------------------------


def test_repeats_and_contradictions_within_a_file(wdbc: Problem, store: Store, make_file) -> None:
    path = make_file(
        "a.csv",
        [0, 1, 2, 1, 4, 4, 6],
        ids=["a", "b", "c", "b", "d", "e", "c"],
        cells={(5, "diagnosis"): "B"},
    )

    record = ingest_file(path, wdbc, store).document

    assert [(row["line"], row["column"], row["reason"]) for row in quarantined(store, record)] == [
        ("4", "id", "stands for other values elsewhere in the file"),
        ("5", "", "repeats an earlier row of the file"),
        ("6", "diagnosis", "differs from that of the same values elsewhere in the file"),
        ("7", "diagnosis", "differs from that of the same values elsewhere in the file"),
        ("8", "id", "stands for other values elsewhere in the file"),
    ]
    assert read_batch(wdbc, store, record).ids == ("a", "b")


def test_a_rejected_row_does_not_make_its_valid_repeat_a_repeat(
    wdbc: Problem, store: Store, make_file
) -> None:
    path = make_file("a.csv", [0, 1, 0], ids=["a", "b", "a"], cells={(0, "diagnosis"): "?"})

    record = ingest_file(path, wdbc, store).document

    assert [row["line"] for row in quarantined(store, record)] == ["2"]


def test_contradictions_of_earlier_batches_name_the_batch(
    wdbc: Problem, store: Store, make_file
) -> None:
    first = ingest_file(make_file("a.csv", [0, 1], ids=["a", "b"]), wdbc, store).document
    second = ingest_file(make_file("b.csv", [2], ids=["c"]), wdbc, store).document

    record = ingest_file(
        make_file("c.csv", [3, 0, 4], ids=["c", "z", "y"], cells={(1, "diagnosis"): "B"}),
        wdbc,
        store,
    ).document

    assert [(row["line"], row["column"], row["reason"]) for row in quarantined(store, record)] == [
        ("2", "id", f"stands for other values in batch {second.batch}"),
        ("3", "diagnosis", f"differs from that of the same values in batch {first.batch}"),
    ]
    assert read_batch(wdbc, store, record).ids == ("y",)


def test_rows_accepted_before_are_accepted_again(wdbc: Problem, store: Store, make_file) -> None:
    ingest_file(make_file("a.csv", range(5), ids=list("abcde")), wdbc, store)

    again = ingest_file(make_file("b.csv", range(7), ids=list("abcdefg")), wdbc, store).document
    nameless = ingest_file(make_file("c.csv", range(6)), wdbc, store).document

    assert (again.quarantined, nameless.quarantined) == (0, 0)


def test_a_kaggle_file_of_known_patients_is_accepted(
    wdbc: Problem, store: Store, make_file, kaggle_file: Path
) -> None:
    ingest_file(make_file("a.csv", range(300)), wdbc, store)

    record = ingest_file(kaggle_file, wdbc, store).document

    assert (record.dialect, record.read, record.accepted) == ("kaggle", 569, 569)


# Near-twins ------------------------------------------------------------------------------


@pytest.mark.parametrize("rounded_first", [False, True])
def test_known_rows_at_another_precision_are_near_repeats(
    wdbc: Problem, store: Store, make_file, rounded_first: bool
) -> None:
    files = [make_file("a.csv", range(20)), make_file("b.csv", range(25), decimals=3)]
    if rounded_first:
        files.reverse()

    first, second = (ingest_file(path, wdbc, store).document for path in files)

    assert (first.repeats, first.near_repeats) == (0, 0)
    assert (second.accepted, second.repeats, second.near_repeats) == (second.read, 20, 20)


def test_repeats_at_the_same_precision_are_no_near_repeats(
    wdbc: Problem, store: Store, make_file
) -> None:
    ingest_file(make_file("a.csv", range(5)), wdbc, store)
    ingest_file(make_file("b.csv", range(5, 8), decimals=3), wdbc, store)

    record = ingest_file(
        make_file("c.csv", range(10), ids=list("abcdefghij")), wdbc, store
    ).document

    assert (record.accepted, record.repeats, record.near_repeats) == (10, 8, 3)


def test_a_contradicting_label_at_another_precision_is_rejected(
    wdbc: Problem, store: Store, make_file
) -> None:
    first = ingest_file(make_file("a.csv", range(5)), wdbc, store).document
    rounded = make_file("b.csv", range(5), decimals=3, cells={(2, "diagnosis"): "B"})

    record = ingest_file(rounded, wdbc, store).document

    assert [(row["line"], row["column"], row["reason"]) for row in quarantined(store, record)] == [
        (
            "4",
            "diagnosis",
            f"differs from that of the same values at another precision in batch {first.batch}",
        )
    ]
    assert (record.accepted, record.near_repeats) == (4, 4)


def test_a_file_with_its_rows_at_two_precisions_has_each_once(
    wdbc: Problem, store: Store, make_file
) -> None:
    path = make_file("a.csv", range(30))
    again = make_file("b.csv", range(30), decimals=3).read_text().split("\n", 1)[1]
    path.write_text(path.read_text() + again)

    record = ingest_file(path, wdbc, store).document

    assert (record.accepted, record.quarantined) == (30, 30)
    assert record.reasons == {"repeats an earlier row of the file at another precision": 30}


def test_an_id_may_stand_for_its_values_at_another_precision(
    wdbc: Problem, store: Store, make_file
) -> None:
    ingest_file(make_file("a.csv", range(3), ids=["a", "b", "c"]), wdbc, store)

    rounded = make_file("b.csv", [0, 1, 3], ids=["a", "b", "c"], decimals=3)
    record = ingest_file(rounded, wdbc, store).document

    assert [(row["line"], row["column"]) for row in quarantined(store, record)] == [("4", "id")]
    assert record.near_repeats == 2


def test_the_public_rows_at_three_decimals_are_569_near_repeats(
    wdbc: Problem, store: Store, make_file, kaggle_file: Path
) -> None:
    ingest_file(kaggle_file, wdbc, store)

    record = ingest_file(make_file("b.csv", range(569), decimals=3), wdbc, store).document

    # Some zeros of rounding are rejected by the rules of a row.
    assert record.accepted == record.near_repeats > 550


EDITS = st.lists(
    st.tuples(
        st.integers(0, 11),
        st.sampled_from(["mean_radius", "worst_area", "diagnosis", "id"]),
        st.sampled_from(["", "nan", "1e400", "M", "B", "p0", "-3", "0", "12.5", "inf"]),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 5), min_size=12, max_size=12), edits=EDITS)
def test_every_row_is_accepted_or_quarantined(
    rows: list[int], edits: list[tuple[int, str, str]]
) -> None:
    wdbc = get_problem("wdbc")
    reference = wdbc.load_reference()
    header = ["id", *wdbc.schema.names, "diagnosis"]
    table = [
        [f"p{row}", *map(repr, reference.values[row].tolist()), "MB"[reference.codes[row]]]
        for row in rows
    ]
    for position, column, text in edits:
        table[position][header.index(column)] = text
    with tempfile.TemporaryDirectory() as folder:
        store = new_store(Path(folder) / "home")
        path = Path(folder) / "a.csv"
        path.write_text("".join(",".join(line) + "\n" for line in (header, *table)))
        try:
            record = ingest_file(path, wdbc, store).document
        except LabelsRefused:
            # Most of the malignant rows were edited to be benign.
            return
        except RowsRejected:
            batch, accepted = sha256_file(path)[:16], []
        else:
            batch = record.batch
            accepted = list(read_batch(wdbc, store, record).keys)
            assert record.accepted + record.quarantined == record.read == 12
            assert record.accepted == len(accepted)
        lines = set()
        if store.quarantined(batch).exists():
            with store.quarantined(batch).open(newline="") as stream:
                lines = {int(row["line"]) for row in csv.DictReader(stream)}
    assert len(accepted) + len(lines) == 12
    assert len(set(accepted)) == len(accepted)


# Many files ------------------------------------------------------------------------------


def test_landed_files_are_ingested_by_arrival_then_by_name(
    wdbc: Problem, store: Store, make_file
) -> None:
    late = make_file("a.csv", [0], folder=store.landing, arrived="2026-03-03")
    second = make_file("c.csv", [1], folder=store.landing, arrived="2026-02-02")
    first = make_file("b.csv", [2], folder=store.landing, arrived="2026-02-02")

    report = ingest_landing(wdbc, store)

    assert [batch.source for batch in report.batches] == [first.name, second.name, late.name]
    assert report.refused == ()


def test_a_second_run_adds_no_batch(wdbc: Problem, store: Store, make_file) -> None:
    make_file("a.csv", range(3), folder=store.landing)
    make_file("b.csv", range(3, 6), folder=store.landing)
    first = ingest_landing(wdbc, store)

    make_file("c.csv", range(6, 9), folder=store.landing)
    again = ingest_landing(wdbc, store)

    assert len(first.batches) == 2
    assert again.batches[:2] == first.batches
    assert [batch.source for batch in again.batches[2:]] == ["c.csv"]


def test_the_same_bytes_landed_twice_count_once(wdbc: Problem, store: Store, make_file) -> None:
    make_file("a.csv", range(3), folder=store.landing)
    make_file("b.csv", range(3), folder=store.landing)

    assert [batch.source for batch in ingest_landing(wdbc, store).batches] == ["a.csv"]


def test_a_refused_file_does_not_stop_the_others(wdbc: Problem, store: Store, make_file) -> None:
    make_file("a.csv", range(3), folder=store.landing, arrived="2026-01-01")
    make_file("b.csv", [3], folder=store.landing, cells={(0, "diagnosis"): "?"})
    (store.landing / "c.csv").write_text("what,is,this\n1,2,3\n")
    make_file("d.csv", range(4, 6), folder=store.landing, arrived="2026-12-01")

    report = ingest_landing(wdbc, store)

    assert [batch.source for batch in report.batches] == ["a.csv", "d.csv"]
    assert {name: error["code"] for name, error in report.refused} == {
        "b.csv": "rows-rejected",
        "c.csv": "schema-mismatch",
    }


def test_files_still_being_written_and_foreign_files_are_ignored(
    wdbc: Problem, store: Store, make_file
) -> None:
    for name in (".a.csv", "a.csv.part", "notes.txt"):
        make_file(name, range(3), folder=store.landing)
    (store.landing / "folder.csv").mkdir()
    make_file("B.CSV", range(3, 6), folder=store.landing)

    report = ingest_landing(wdbc, store)

    assert [batch.source for batch in report.batches] == ["B.CSV"]
    assert report.refused == ()


def test_what_is_no_file_in_landing_is_refused_by_name_and_stops_no_other(
    wdbc: Problem, store: Store, make_file
) -> None:
    make_file("c.csv", range(3), folder=store.landing)
    os.mkfifo(store.landing / "a.csv")
    (store.landing / "b.csv").symlink_to("/dev/zero")
    (store.landing / "d.csv").symlink_to("gone.csv")

    report = ingest_landing(wdbc, store)

    assert [batch.source for batch in report.batches] == ["c.csv"]
    assert {name: error["message"] for name, error in report.refused} == {
        "a.csv": "a.csv is a pipe.",
        "b.csv": "b.csv is a device.",
        "d.csv": "d.csv cannot be opened: No such file or directory.",
    }


def test_a_file_of_too_many_rows_is_refused(
    wdbc: Problem, store: Store, make_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelled_file, "ROW_LIMIT", 4)
    with pytest.raises(FileRefused, match="more than 4 rows"):
        ingest_file(make_file("a.csv", range(5)), wdbc, store)
    assert ingest_file(make_file("b.csv", range(4)), wdbc, store).document.read == 4


def test_a_volume_without_a_landing_folder_has_nothing_to_ingest(
    wdbc: Problem, store: Store
) -> None:
    report = ingest_landing(wdbc, store)

    assert (report.batches, report.refused) == ((), ())


def test_a_later_file_is_compared_with_the_earlier_ones_of_the_same_run(
    wdbc: Problem, store: Store, make_file
) -> None:
    make_file("a.csv", [0], folder=store.landing, ids=["x"], arrived="2026-01-01")
    make_file("b.csv", [1, 2], folder=store.landing, ids=["x", "y"], arrived="2026-01-02")

    first, second = ingest_landing(wdbc, store).batches

    assert list(second.reasons) == [f"stands for other values in batch {first.batch}"]


# Two at once -----------------------------------------------------------------------------


def test_two_ingests_of_one_file_at_once_make_one_batch(
    wdbc: Problem, store: Store, make_file
) -> None:
    path = make_file("a.csv", range(50))

    with ThreadPoolExecutor(4) as pool:
        records = list(pool.map(lambda _: ingest_file(path, wdbc, store).document, range(4)))

    assert all(record == records[0] for record in records)
    assert list_batches(store) == [records[0]]


def test_the_batch_of_a_faster_process_is_returned(
    wdbc: Problem, store: Store, make_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_file("a.csv", range(5), arrived="2026-02-02")
    same = make_file("b.csv", range(5), arrived="2026-01-01")
    real = labelled_file.open_table

    def let_the_other_go_first(*args):
        monkeypatch.setattr(labelled_file, "open_table", real)
        ingest_file(same, wdbc, store)
        return real(*args)

    monkeypatch.setattr(labelled_file, "open_table", let_the_other_go_first)

    record = ingest_file(path, wdbc, store).document

    assert (record.source, record.arrived_at) == ("b.csv", "2026-01-01T00:00:00Z")
    assert list_batches(store) == [record]


def test_one_of_two_contradicting_files_ingested_at_once_is_rejected(
    wdbc: Problem, store: Store, make_file
) -> None:
    paths = [make_file(f"{n}.csv", [n, 10 + n], ids=["same", f"own{n}"]) for n in range(4)]

    with ThreadPoolExecutor(4) as pool:
        records = list(pool.map(lambda path: ingest_file(path, wdbc, store).document, paths))

    assert sorted(record.accepted for record in records) == [1, 1, 1, 2]


def test_stored_files_can_be_read_by_the_group(wdbc: Problem, store: Store, make_file) -> None:
    path = make_file("a.csv", range(3), cells={(0, "diagnosis"): ""})

    before = os.umask(0o077)
    try:
        record = ingest_file(path, wdbc, store).document
    finally:
        os.umask(before)

    for stored_file in (
        store.batch_rows(record.batch),
        store.batch_document(record.batch),
        store.quarantined(record.batch),
    ):
        assert stored_file.stat().st_mode & 0o777 == 0o640


# Times and names ---------------------------------------------------------------------------


def test_landed_files_with_a_wrong_time_or_name_stop_no_other(
    wdbc: Problem, store: Store, make_file
) -> None:
    good = make_file("good.csv", range(5), folder=store.landing)
    late = make_file("late.csv", range(5, 10), folder=store.landing, arrived="2106-02-07")
    other = make_file("x.csv", range(15, 20), folder=store.landing)
    other.rename(store.landing / os.fsdecode(b"caf\xe9.csv"))

    report = ingest_landing(wdbc, store)

    assert [batch.source for batch in report.batches] == [good.name]
    refused = {name: error["message"] for name, error in report.refused}
    assert set(refused) == {"late.csv", r"caf\xe9.csv"}
    assert "2106-02-07T00:00:00Z, which lies more than a day ahead" in refused["late.csv"]
    assert "not UTF-8" in refused[r"caf\xe9.csv"]
    json.dumps(report.refused).encode()

    ingest_file(late, wdbc, store, datetime(2026, 11, 2, tzinfo=UTC))
    os.utime(late, (2.0**32, 2.0**32))
    assert len(ingest_landing(wdbc, store).batches) == 2


@pytest.mark.parametrize("year", [1, 1899, 2106])
def test_a_given_time_is_held_against_the_clock(
    wdbc: Problem, store: Store, make_file, year: int
) -> None:
    with pytest.raises(ConfigError, match=f"arrived_at is {year:04}-01-01T00:00:00Z"):
        ingest_file(make_file("a.csv", [1]), wdbc, store, datetime(year, 1, 1, tzinfo=UTC))
    assert not list_batches(store)


@pytest.mark.parametrize("stored_time", ["1-01-01T00:00:00Z", "2106-02-07T06:28:16Z"])
def test_a_batch_that_an_earlier_release_dated_wrongly_stays_readable(
    wdbc: Problem, store: Store, make_file, stored_time: str
) -> None:
    record = ingest_file(make_file("a.csv", range(5)), wdbc, store).document
    path = store.batch_document(record.batch)
    stored_as = path.read_text().replace(record.arrived_at, stored_time)
    write_signed(store, path, stored_as.encode())
    ingest_file(make_file("b.csv", range(5, 9)), wdbc, store)

    assert len(list_batches(store)) == 2
    assert len(rows_as_of(wdbc, store, "2026-12-01")) == (9 if stored_time[0] == "1" else 4)
