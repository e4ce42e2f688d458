from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import parse_time
from bc_pipeline.data.batches import read_batch
from bc_pipeline.data.demo_feed import write_demo_feed
from bc_pipeline.data.ingest import ingest_file, ingest_landing
from bc_pipeline.data.label_check import label_agreement, profile_of_dataset
from bc_pipeline.data.rows import LabelledRows
from bc_pipeline.data.snapshot import make_snapshot
from bc_pipeline.errors import FileRefused, LabelsRefused, RowsRejected
from bc_pipeline.problems.base import Problem
from bc_pipeline.tables.writer import Kind, TableWriter

ROWS = range(100, 160)
SWAPPED = {"0": "benign", "1": "malignant"}


@pytest.fixture
def coded(make_file: Callable[..., Path], reference: tuple[np.ndarray, np.ndarray]) -> object:
    """Write public rows whose labels are numbers; ``one`` is the label that is coded 1."""
    codes = reference[1]

    def make(
        name: str, rows: range = ROWS, *, one: str = "benign", form: str = "{}", **options: object
    ) -> Path:
        # The public rows have 1 for benign.
        texts = [form.format(int(codes[row]) ^ (one == "malignant")) for row in rows]
        cells = {(position, "diagnosis"): text for position, text in enumerate(texts)}
        return make_file(name, rows, cells=cells, **options)

    return make


def stored_codes(wdbc: Problem, store: Store, path: Path, **options: object) -> list[int]:
    return read_batch(
        wdbc, store, ingest_file(path, wdbc, store, **options).document
    ).codes.tolist()


@pytest.mark.parametrize("form", ["{}", "{}.0", "{}.", " {}", '"{}"'])
def test_codes_that_the_rows_confirm_are_taken(
    wdbc: Problem, store: Store, coded, public_rows: LabelledRows, form: str
) -> None:
    path = coded("a.csv", form=form.replace('"', ""))
    if '"' in form:
        lines = path.read_text().splitlines()
        quoted = [f'{line.rpartition(",")[0]},"{line.rpartition(",")[2]}"' for line in lines[1:]]
        path.write_text("\n".join([lines[0], *quoted]) + "\n")
    record = ingest_file(path, wdbc, store).document
    assert record.label_codes == {"0": "malignant", "1": "benign"}
    assert read_batch(wdbc, store, record).codes.tolist() == public_rows.codes[ROWS].tolist()


def test_codes_the_other_way_round_are_refused_by_name(wdbc: Problem, store: Store, coded) -> None:
    path = coded("clinic.csv", one="malignant")
    with pytest.raises(LabelsRefused, match=r"of 60 rows of clinic\.csv are labelled against"):
        ingest_file(path, wdbc, store)
    assert not list(store.batches.glob("*.json"))


@pytest.mark.parametrize("how", ["option", "beside", "beside, after a byte order mark"])
def test_a_declaration_says_what_codes_mean(
    wdbc: Problem, store: Store, coded, public_rows: LabelledRows, how: str
) -> None:
    path = coded("clinic.csv", one="malignant")
    options = {"label_codes": SWAPPED} if how == "option" else {}
    if how != "option":
        declaration = json.dumps({"format": 1, "label_codes": {"0": "benign", "1": "malignant"}})
        encoding = "utf-8" if how == "beside" else "utf-8-sig"
        path.with_name("clinic.csv.labels.json").write_text(declaration, encoding)
    assert stored_codes(wdbc, store, path, **options) == public_rows.codes[ROWS].tolist()


def test_a_declared_code_is_held_against_the_profile(wdbc: Problem, store: Store, coded) -> None:
    path = coded("clinic.csv")
    with pytest.raises(LabelsRefused, match="against the class profile"):
        ingest_file(path, wdbc, store, label_codes=SWAPPED)


def test_a_few_rows_need_a_declaration(wdbc: Problem, store: Store, coded) -> None:
    path = coded("clinic.csv", range(100, 102))
    with pytest.raises(LabelsRefused, match="Declare the codes"):
        ingest_file(path, wdbc, store)
    codes = {"0": "malignant", "1": "benign"}
    assert len(stored_codes(wdbc, store, path, label_codes=codes)) == 2


def test_swapped_words_are_refused(
    wdbc: Problem, store: Store, make_file, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    cells = {(position, "diagnosis"): "BM"[reference[1][row]] for position, row in enumerate(ROWS)}
    with pytest.raises(LabelsRefused, match="Are the words for the labels swapped"):
        ingest_file(make_file("clinic.csv", ROWS, cells=cells), wdbc, store)


def test_a_code_among_words_is_a_defect_of_its_row(wdbc: Problem, store: Store, make_file) -> None:
    path = make_file("a.csv", range(30), cells={(3, "diagnosis"): "0"})
    record = ingest_file(path, wdbc, store).document
    assert (record.accepted, record.quarantined) == (29, 1)
    assert list(record.reasons) == ["is a code in a file of words, and codes are not declared"]


@pytest.mark.parametrize("text", ["TRUE", "False", "2", "0.5", "yes"])
def test_other_texts_are_no_codes(wdbc: Problem, store: Store, make_file, text: str) -> None:
    path = make_file("a.csv", range(3), cells={(row, "diagnosis"): text for row in range(3)})
    with pytest.raises(RowsRejected):
        ingest_file(path, wdbc, store)


@pytest.mark.parametrize("kind", ["integer", "number"])
def test_codes_in_parquet_are_numbers_of_either_kind(
    wdbc: Problem, store: Store, tmp_path: Path, public_rows: LabelledRows, kind: Kind
) -> None:
    path = tmp_path / "a.parquet"
    names = wdbc.schema.names
    columns: dict[str, Kind] = {**dict.fromkeys(names, "number"), "target": kind}
    rows = {name: public_rows.values[ROWS, index] for index, name in enumerate(names)}
    with TableWriter(path, columns, "parquet") as writer:
        writer.write(rows | {"target": public_rows.codes[ROWS]})
    assert stored_codes(wdbc, store, path) == public_rows.codes[ROWS].tolist()


def test_a_known_batch_does_not_take_other_codes(wdbc: Problem, store: Store, coded) -> None:
    path = coded("a.csv")
    first = ingest_file(path, wdbc, store).document
    assert ingest_file(path, wdbc, store).document == first
    with pytest.raises(LabelsRefused, match="was made with the label codes 0=malignant,1=benign"):
        ingest_file(path, wdbc, store, label_codes=SWAPPED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"label_codes": {"0": "malignant"}}',
        '{"label_codes": {"0": 1, "1": 0}}',
        '{"label_codes": {"0": "M", "1": "B"}, "more": 1}',
        "x" * 5000,
    ],
)
def test_a_declaration_that_says_something_else_is_refused(
    wdbc: Problem, store: Store, coded, text: str
) -> None:
    path = coded("a.csv")
    path.with_name("a.csv.labels.json").write_text(text)
    with pytest.raises(FileRefused, match=r"a\.csv\.labels\.json does not declare label codes"):
        ingest_file(path, wdbc, store)


def test_a_refused_file_stops_no_other(wdbc: Problem, store: Store, coded) -> None:
    coded("a.csv", one="malignant", folder=store.landing)
    coded("b.csv", range(200, 260), folder=store.landing)
    report = ingest_landing(wdbc, store)
    assert [batch.source for batch in report.batches] == ["b.csv"]
    assert [(name, error["code"]) for name, error in report.refused] == [
        ("a.csv", "labels-refused")
    ]


def test_no_file_of_the_demo_feed_contradicts(wdbc: Problem, store: Store) -> None:
    write_demo_feed(wdbc, store, parse_time("2026-11-01T00:00:00Z"))
    report = ingest_landing(wdbc, store)
    assert report.refused == ()
    for batch in report.batches:
        found = label_agreement(wdbc, read_batch(wdbc, store, batch), wdbc.class_profile)
        assert found.verdict in ("agrees", "undecided")


def test_the_profile_of_a_dataset_replaces_the_shipped_one(
    wdbc: Problem, store: Store, make_file
) -> None:
    ingest_file(make_file("few.csv", range(19, 40), arrived="2026-01-01T00:00:00Z"), wdbc, store)
    few = make_snapshot(wdbc, store, "2026-06-01T00:00:00Z").document
    assert profile_of_dataset(wdbc, store, few.dataset) is wdbc.class_profile
    ingest_file(make_file("many.csv", range(40, 400), arrived="2026-07-01T00:00:00Z"), wdbc, store)
    many = make_snapshot(wdbc, store, "2026-08-01T00:00:00Z").document
    profile = profile_of_dataset(wdbc, store, many.dataset)
    assert profile is not wdbc.class_profile
    assert profile.positive[0] == pytest.approx(wdbc.class_profile.positive[0], rel=0.1)
