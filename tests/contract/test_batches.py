"""What stands on the volume for a batch and a dataset: other programs and old runs read it.

A change of any value here is a change of format: it renames every dataset, so models can
no longer be traced to the rows they were made of. Raise the format number with it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bc_pipeline.artifacts.files import read_document, sha256_file, write_document
from bc_pipeline.artifacts.signed_document import signature_name
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.batches import BatchDocument
from bc_pipeline.data.ingest import ingest_file
from bc_pipeline.data.rows import rows_digest
from bc_pipeline.data.rows_as_of import rows_as_of
from bc_pipeline.data.snapshot import make_snapshot
from bc_pipeline.errors import ArtifactCorrupt
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import row_key


@pytest.fixture
def batch(
    wdbc: Problem, store: Store, reference: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> BatchDocument:
    """The public rows in scikit-learn's own form, and one row with a hole."""
    header = ",".join(name.replace("_", " ") for name in wdbc.schema.names)
    lines = [f"{header},target"]
    lines += [
        ",".join([*map(repr, values.tolist()), str(code)])
        for values, code in zip(*reference, strict=True)
    ]
    lines.append("," * 29 + ",1")
    path = tmp_path / "public.csv"
    path.write_text("\n".join(lines) + "\n")
    return ingest_file(path, wdbc, store).document


def test_files_of_a_batch_and_a_dataset(wdbc: Problem, store: Store, batch: BatchDocument) -> None:
    dataset = make_snapshot(wdbc, store, "2100-01-01").document.dataset

    # Rows are bound by the digest in their document.
    signed = {
        f"batches/{batch.batch}.json",
        f"quarantine/{batch.batch}.csv",
        f"datasets/{dataset}.json",
    }
    signatures = {signature_name(name, sha256_file(store.data / name)) for name in signed}
    assert {
        path.relative_to(store.data).as_posix()
        for path in store.data.rglob("*")
        if path.is_file() and path.name != ".lock"
    } == signed | signatures | {
        f"batches/{batch.batch}.parquet",
        f"datasets/{dataset}.parquet",
    }


def test_columns_of_stored_rows(wdbc: Problem, store: Store, batch: BatchDocument) -> None:
    dataset = make_snapshot(wdbc, store, "2100-01-01").document.dataset
    wanted = [
        ("key", "string"),
        ("id", "string"),
        *((name, "double") for name in wdbc.schema.names),
        ("diagnosis", "int64"),
    ]

    for path in (store.batch_rows(batch.batch), store.dataset_rows(dataset)):
        schema = pq.read_schema(path)
        assert [(field.name, str(field.type)) for field in schema] == wanted
        assert schema.metadata is None


def test_labels_are_stored_in_the_code_of_scikit_learn(
    store: Store, batch: BatchDocument, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    stored = pq.read_table(store.batch_rows(batch.batch)).column("diagnosis").to_pylist()

    assert stored == reference[1].tolist()


def test_fields_of_a_batch_document(store: Store, batch: BatchDocument) -> None:
    plain = json.loads(store.batch_document(batch.batch).read_text())

    assert list(plain) == [
        "format",
        "batch",
        "problem",
        "source",
        "source_sha256",
        "arrived_at",
        "dialect",
        "schema_fingerprint",
        "read",
        "accepted",
        "quarantined",
        "reasons",
        "problems",
        "parquet_sha256",
        "repeats",
        "near_repeats",
        "notices",
        "label_codes",
        "number",
        "check",
    ]
    assert plain["format"] == 1
    assert (plain["read"], plain["accepted"], plain["quarantined"]) == (570, 569, 1)
    assert set(plain["problems"][0]) == {"line", "column", "reason"}
    assert plain["problems"][0]["line"] == 571


def test_fields_of_a_dataset_document(wdbc: Problem, store: Store, batch: BatchDocument) -> None:
    record = make_snapshot(wdbc, store, "2100-01-01").document
    plain = json.loads(store.dataset_document(record.dataset).read_text())

    assert list(plain) == [
        "format",
        "dataset",
        "problem",
        "sha256",
        "schema_fingerprint",
        "rows",
        "positive_rows",
        "parquet_sha256",
        "near_twins",
    ]
    assert (plain["format"], plain["rows"], plain["positive_rows"]) == (1, 569, 212)


def test_columns_of_a_quarantine_file(store: Store, batch: BatchDocument) -> None:
    header = store.quarantined(batch.batch).read_text().splitlines()[0]

    assert header == "line,id,column,reason"


def test_keys_are_pinned(reference: tuple[np.ndarray, np.ndarray]) -> None:
    assert row_key(reference[0][0].tolist()) == "6060514da770a644d4636684"


def test_the_digest_of_rows_is_pinned(wdbc: Problem, store: Store, batch: BatchDocument) -> None:
    rows = rows_as_of(wdbc, store, "2100-01-01")

    assert rows_digest("a schema", rows) == (
        "f716dbb1b20cdecdea8280e5b4ecdf3d9afac0f7bd2759def4afb3f394465b39"
    )


def test_a_document_with_an_unknown_field_is_refused(store: Store, batch: BatchDocument) -> None:
    path = store.batch_document(batch.batch)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"surprise": 1}))

    with pytest.raises(ArtifactCorrupt, match="surprise"):
        read_document(path, BatchDocument)


def test_a_document_reads_back_as_itself(batch: BatchDocument, tmp_path: Path) -> None:
    write_document(tmp_path / "record.json", batch)

    assert read_document(tmp_path / "record.json", BatchDocument) == batch
