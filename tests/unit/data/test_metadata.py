"""Metadata on its way from a landed file to a side of the split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.batches import BatchDocument, read_batch
from bc_pipeline.data.ingest import ingest_file
from bc_pipeline.data.rows import decode_rows, encode_rows, rows_digest
from bc_pipeline.data.snapshot import Dataset, load_dataset, make_snapshot
from bc_pipeline.data.split import split
from bc_pipeline.errors import Defect, SchemaMismatch
from bc_pipeline.problems.base import Problem
from bc_pipeline.tables.reader import open_table
from tests.unit.data.conftest import MakeFile
from tests.volumes import new_store

ROWS = list(range(0, 120, 3))
LATE = "2027-01-01T00:00:00Z"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path / "home")


def with_columns(path: Path, **columns: list[str]) -> Path:
    """The same file with more columns."""
    table = pd.read_csv(path, dtype=str)
    for name, cells in columns.items():
        table[name] = cells
    table.to_csv(path, index=False)
    return path


def dataset_of(problem: Problem, store: Store) -> Dataset:
    return load_dataset(problem, store, make_snapshot(problem, store, LATE).document.dataset)


def site_of(row: int) -> str:
    return ("north", "south", "")[row % 3]


def test_metadata_reaches_the_split_and_no_values(
    wdbc: Problem, store: Store, make_file: MakeFile, tmp_path: Path
) -> None:
    bare = new_store(tmp_path / "bare")
    ingest_file(make_file("bare.csv", ROWS), wdbc, bare)
    sites = [site_of(n) for n in range(len(ROWS))]
    path = with_columns(make_file("a.csv", ROWS), Hospital=sites, age_band=["40-49"] * len(ROWS))
    ingest_file(path, wdbc, store)

    dataset, without = dataset_of(wdbc, store), dataset_of(wdbc, bare)

    assert set(dataset.metadata) == {"site", "age_band"}
    assert dataset.digest != without.digest
    assert dataset.keys == without.keys
    assert np.array_equal(dataset.values, without.values)
    assert without.metadata == {}
    parts = split(wdbc.split, dataset)
    counts = {
        key: site
        for part in (parts.train, parts.holdout)
        for key, site in zip(part.keys, part.metadata["site"], strict=True)
    }
    assert counts == dict(zip(dataset.keys, dataset.metadata["site"], strict=True))
    assert sorted(counts.values()) == sorted(sites)


def test_known_rows_get_the_metadata_of_a_later_file(
    wdbc: Problem, store: Store, make_file: MakeFile
) -> None:
    ingest_file(make_file("a.csv", ROWS), wdbc, store)
    before = dataset_of(wdbc, store)
    later = make_file("b.csv", ROWS[:10], arrived="2026-11-08T00:00:00Z")
    document = ingest_file(with_columns(later, site=["north"] * 10), wdbc, store).document
    assert (document.accepted, document.repeats) == (10, 10)

    after = dataset_of(wdbc, store)

    assert after.keys == before.keys
    assert after.metadata["site"].count("north") == 10


def test_a_value_that_is_none_of_the_column_rejects_its_row_without_repeating_it(
    wdbc: Problem, store: Store, make_file: MakeFile
) -> None:
    cells = ["40-49"] * len(ROWS)
    cells[3] = "1979-05-02"
    document: BatchDocument = ingest_file(
        with_columns(make_file("a.csv", ROWS), age_band=cells), wdbc, store
    ).document
    assert (document.accepted, document.quarantined) == (len(ROWS) - 1, 1)
    (defect,) = document.problems
    assert (defect.line, defect.column) == (5, "age_band")
    assert defect.reason == "is not a range of years such as 40-49, <40 or 80+"
    assert "1979" not in store.quarantined(document.batch).read_text()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_both_kinds_of_table_are_read_alike(
    wdbc: Problem, make_file: MakeFile, tmp_path: Path, kind: str
) -> None:
    sites = [site_of(n) for n in range(len(ROWS))]
    path = with_columns(make_file("a.csv", ROWS), site=sites, device=["7"] * len(ROWS))
    if kind == "parquet":
        table = pd.read_csv(path)
        path = tmp_path / "a.parquet"
        table.to_parquet(path)
    with open_table(path, wdbc.schema, wdbc.labels) as reader:
        (block,) = reader
    assert not block.defects
    assert block.metadata == {"site": tuple(sites), "device": ("7",) * len(ROWS)}
    assert reader.notices == ()


def test_metadata_is_passed_over_with_a_notice_where_labels_are_not_read(
    wdbc: Problem, make_file: MakeFile
) -> None:
    path = with_columns(make_file("a.csv", ROWS), site=["=a bad value()"] * len(ROWS))
    with open_table(path, wdbc.schema, wdbc.labels, read_labels=False) as reader:
        (block,) = reader
    assert not block.defects
    assert block.metadata == {}
    assert reader.notices == ("column site is metadata, which no model uses, and was passed over",)


def test_a_column_given_twice_is_a_defect(wdbc: Problem, make_file: MakeFile) -> None:
    path = with_columns(make_file("a.csv", ROWS), site=["a"] * len(ROWS), center=["b"] * len(ROWS))
    with pytest.raises(SchemaMismatch) as raised:
        open_table(path, wdbc.schema, wdbc.labels)
    (defect,) = raised.value.defects
    assert defect == Defect("is given twice, as 'site' and 'center'", column="site")


def test_rows_that_could_not_be_split_have_no_metadata(wdbc: Problem, make_file: MakeFile) -> None:
    path = with_columns(make_file("a.csv", ROWS), site=["north"] * len(ROWS))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], "1,2,3", *lines[4:], ""]))
    with open_table(path, wdbc.schema, wdbc.labels) as reader:
        (block,) = reader
    assert block.metadata["site"] == ("north",) * 3 + ("",) + ("north",) * (len(ROWS) - 3)


def test_metadata_is_bound_by_the_dataset_and_goes_with_an_erased_row(
    wdbc: Problem, store: Store, make_file: MakeFile
) -> None:
    sites = ["north"] * len(ROWS)
    sites[4] = "unique"
    names = [f"P{row}" for row in ROWS]
    path = with_columns(make_file("a.csv", ROWS, ids=names), site=sites)
    document = ingest_file(path, wdbc, store).document
    rows = read_batch(wdbc, store, document)
    other = replace(rows, metadata={"site": ("north",) * len(rows)})
    fingerprint = wdbc.schema.fingerprint
    assert rows_digest(fingerprint, rows) != rows_digest(fingerprint, other)

    left = rows.take([row for row in range(len(rows)) if rows.ids[row] != "P12"])
    stored = decode_rows(wdbc, encode_rows(wdbc, left), path)
    assert stored.metadata == {"site": ("north",) * (len(rows) - 1)}
