"""Batches and labelled uploads through the service."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tempfile
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bc_pipeline.data.batches import read_batch
from bc_pipeline.data.ingest import ingest_landing
from bc_pipeline.errors import RecordsAway
from bc_pipeline.serving.request_parsing.batch import json_rows
from bc_pipeline.serving.routes import batches
from bc_pipeline.settings import Settings
from bc_pipeline.tables.writer import probability_text
from tests.contract.hostile_csv import FILES, LIMIT
from tests.cpu_time import within_loops
from tests.unit.serving.conftest import KEY, Service

FORM_FILE = '--a\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\n'
BATCH, LABELLED = "/v1/predict/batch", "/v1/labelled-data"


def send(
    service: Service, path: str, content: Any, kind: str = "text/csv", accept: str = "*/*"
) -> Any:
    body = content if isinstance(content, str | bytes) else json.dumps(content)
    headers = {"X-API-Key": KEY, "Content-Type": kind, "Accept": accept}
    return service.request("POST", path, content=body, headers=headers)


def send_form(service: Service, path: str, files: Any) -> Any:
    return service.request("POST", path, files=files, headers={"X-API-Key": KEY})


def lines(response: Any) -> list[dict[str, Any]]:
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.fixture(autouse=True)
def uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where uploads are kept while they are read."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def table(reference: Any, wdbc: Any) -> str:
    """All reference rows with ids, as CSV."""
    values, codes = reference
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "diagnosis", *wdbc.schema.names])
    for index, (row, code) in enumerate(zip(values.tolist(), codes.tolist(), strict=True)):
        writer.writerow([f"p{index}", code, *row])
    return out.getvalue()


def test_a_json_list_is_answered_row_by_row(
    service: Service, reference: Any, fitted: Any, wdbc: Any
) -> None:
    values = reference[0].tolist()
    named = dict(zip(wdbc.schema.names, values[1], strict=True))
    records = [
        {"features": values[0], "id": "a"},
        named,
        {"features": values[2][:-1]},
        5,
        values[3],
    ]
    response = send(service, BATCH, records, "application/json")
    assert (response.status_code, response.headers["x-model-version"]) == (200, "v1")
    *rows, end = lines(response)
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5]
    for row, expected in zip(rows[:2], fitted[0].probability, strict=False):
        answered = row["prediction"]["probabilities"]["malignant"]
        assert abs(answered - expected) <= 1e-12
    assert rows[0]["prediction"]["id"] == "a"
    assert [row["defects"][0]["feature"] for row in rows[2:]] == ["features", None, None]
    assert end["summary"] == {
        "rows": 5,
        "answered": 2,
        "refused": 3,
        "model_version": "v1",
        "manifest_sha256": rows[0]["prediction"]["manifest_sha256"],
    }


@pytest.mark.parametrize("slow", [False, True])
def test_rows_of_a_repeated_id_are_refused_by_name(
    service: Service, reference: Any, slow: bool
) -> None:
    """Which of them is meant cannot be known: batch scoring decides in the same way."""
    values = reference[0].tolist()
    ids = ["a", "b", "a", None, None, "c"]
    records = [
        {"features": row} | ({"id": sample_id} if sample_id else {})
        for row, sample_id in zip(values, ids, strict=False)
    ]
    # Its id counts, too.
    records += [{"features": values[0][:-1], "id": "c"}] if slow else []
    before = service.app.state.services.spool.state().backlog
    *rows, end = lines(send(service, BATCH, records, "application/json"))
    refused = {1, 3} | ({6, 7} if slow else set())
    assert {row["row"] for row in rows if "defects" in row} == refused
    assert rows[0] == {
        "row": 1,
        "id": "a",
        "defects": [{"feature": "id", "reason": "stands for several rows of the batch"}],
    }
    assert end["summary"]["answered"] == len(rows) - len(refused)
    assert service.app.state.services.spool.state().backlog > before


@pytest.mark.parametrize("kind", ["text/csv", "application/json"])
def test_a_repeated_id_is_named_beside_the_other_defects_of_its_row(
    service: Service, table: str, reference: Any, wdbc: Any, kind: str
) -> None:
    header, first, second, third = table.splitlines()[:4]
    content: Any
    if kind == "text/csv":
        cells = second.split(",")
        second = ",".join([first.split(",")[0], cells[1], "x", *cells[3:]])
        content = "\n".join([header, first, second, third]) + "\n"
    else:
        values = [dict(zip(wdbc.schema.names, row, strict=True)) for row in reference[0].tolist()]
        values[1]["mean_radius"] = "x"
        content = [{"features": values[row], "id": name} for row, name in enumerate("AAB")]
    one, two, three, _ = lines(send(service, BATCH, content, kind))
    repeated = {"feature": "id", "reason": "stands for several rows of the batch"}
    assert one["defects"] == [repeated]
    assert [defect["feature"] for defect in two["defects"]] == ["mean_radius", "id"]
    assert two["defects"][1] == repeated
    assert "prediction" in three


def test_rows_of_a_repeated_id_in_csv_are_refused_by_name(service: Service, table: str) -> None:
    changed = table.replace("\np7,", "\np3,").replace("\np560,", "\np3,")
    *rows, end = lines(send(service, BATCH, changed))
    assert [row["row"] for row in rows if "defects" in row] == [5, 9, 562]
    assert {row["id"] for row in rows if "defects" in row} == {"p3"}
    assert (end["summary"]["answered"], end["summary"]["refused"]) == (566, 3)


def test_a_small_batch_has_a_length_and_a_large_one_is_streamed(
    service: Service, reference: Any
) -> None:
    records = [{"features": row} for row in reference[0].tolist()]
    small = send(service, BATCH, records[:200], "application/json")
    large = send(service, BATCH, records[:201], "application/json")
    assert int(small.headers["content-length"]) == len(small.content)
    assert "content-length" not in large.headers
    for response, count in ((small, 200), (large, 201)):
        *rows, end = lines(response)
        assert len(rows) == end["summary"]["answered"] == count
    text = send(service, BATCH, records[:3], "application/json", "text/csv").text
    assert len(text.splitlines()) == 4
    assert text.startswith("row,id,")


def test_csv_is_answered_like_single_records(
    service: Service, table: str, reference: Any, uploads: Path
) -> None:
    *rows, end = lines(send(service, BATCH, table))
    assert end["summary"]["answered"] == len(rows) == 569
    for index in (0, 19, 568):
        single = service.predict({"features": reference[0][index].tolist()}).json()
        found = rows[index]["prediction"]
        assert (rows[index]["row"], found["id"]) == (index + 2, f"p{index}")
        assert found["label"] == single["label"]
        assert abs(found["probability"] - single["probability"]) <= 1e-12
        assert found["warnings"] == single["warnings"]
    assert len({row["prediction"]["prediction_id"] for row in rows}) == 569
    assert list(uploads.iterdir()) == []
    form = send_form(service, BATCH, {"file": ("x.csv", table, "text/csv")})
    assert lines(form)[-1] == end


def test_a_refused_row_keeps_its_id(service: Service, table: str, reference: Any) -> None:
    row = reference[0][0].tolist()
    records = [
        {"features": row[:-1], "id": "a"},
        {"id": "b"},
        {"features": row, "id": "c"},
        {"features": row, "id": 5.5},
        {"features": row, "id": "d", "Id": "e"},
        {"features": row, "id": "x" * 201},
        "f",
    ]
    *rows, _ = lines(send(service, BATCH, records, "application/json"))
    assert [line.get("id") for line in rows] == ["a", "b", "c", None, None, None, None]
    assert rows[-1]["defects"] == [{"feature": None, "reason": "the record must be a JSON object"}]
    damaged = table.replace("17.99", "oops", 1).replace("p1,0", '"p\t1",0', 1)
    first, second, third, *_ = lines(send(service, BATCH, damaged))
    assert (first["id"], "prediction" in first) == ("p0", False)
    assert (second.get("id"), third["id"]) == (None, "p2")
    as_csv = send(service, BATCH, damaged, accept="text/csv").text
    assert [found["id"] for found in csv.DictReader(io.StringIO(as_csv))][:3] == ["p0", "", "p2"]


def test_csv_and_json_answers_agree(service: Service, table: str) -> None:
    *rows, _ = lines(send(service, BATCH, table))
    as_csv = send(service, BATCH, table, accept="text/csv").text
    for cells, line in zip(csv.DictReader(io.StringIO(as_csv)), rows, strict=True):
        predicted = line["prediction"]
        assert float(cells["positive_probability"]) == predicted["probabilities"]["malignant"]
        assert float(cells["threshold"]) == predicted["threshold"] == 0.4
        for name in ("label", "model_version", "manifest_sha256"):
            assert cells[name] == predicted[name]
        assert cells["probability"] == probability_text(predicted["probability"])
        called = float(cells["positive_probability"]) > float(cells["threshold"])
        assert cells["label"] == ("malignant" if called else "benign")


def test_every_row_of_a_batch_is_in_the_log(
    service: Service, table: str, settings: Settings
) -> None:
    rows = lines(send(service, BATCH, table))[:-1]
    logged = b"".join(path.read_bytes() for path in settings.records.rglob("*.log"))
    logged = logged or b"".join(
        path.read_bytes() for path in settings.records.rglob("*") if path.is_file()
    )
    assert all(row["prediction"]["prediction_id"].encode() in logged for row in rows)


def test_csv_answers_escape_formulas(service: Service, table: str) -> None:
    evil = table.replace("p1,", "=cmd|x,", 1).replace("p2,", "@x,", 1)
    response = send(service, BATCH, evil, accept="text/csv")
    found = list(csv.DictReader(io.StringIO(response.text)))
    assert response.headers["content-type"].startswith("text/csv")
    assert [row["id"] for row in found[:3]] == ["p0", "'=cmd|x", "'@x"]
    assert float(found[0]["probability"]) <= 1
    broken = send(service, BATCH, table.replace("17.99", "oops", 1), accept="text/csv")
    first = next(csv.DictReader(io.StringIO(broken.text)))
    assert first["defects"].startswith("mean_radius")
    assert first["label"] == ""


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("{}", 422),
        ("[]", 422),
        ("[" * 100_000, 400),
        ("[" + "1," * 10_000 + "1]", 422),
        ("[NaN]", 200),
        ('[{"features": [1e400]}]', 200),
        ('["\\ud800"]', 200),
        ("[1", 400),
        ('["' + "x" * (1024 * 1024) + '"]', 200),
        ("7" * (2 * 1024 * 1024), 422),
    ],
)
def test_hostile_json_is_answered_in_bounded_time(service: Service, body: str, status: int) -> None:
    start = time.process_time()
    response = send(service, BATCH, body, "application/json")
    assert response.status_code == status
    assert within_loops(time.process_time() - start, 40)
    if status == 200:
        assert lines(response)[-1]["summary"]["refused"] == 1


@pytest.mark.integration
@pytest.mark.parametrize("path", [BATCH, LABELLED])
def test_hostile_csv_is_refused_or_has_defects(service: Service, path: str, uploads: Path) -> None:
    wrong = []
    for case in FILES:
        body = case.make()
        response = send(service, path, body)
        fits = response.status_code in (200, 413, 422)
        if path == BATCH and len(body) <= LIMIT:
            fits = fits and (response.status_code == 200) == (case.code is None)
        if response.status_code != 200:
            fits = fits and response.headers["content-type"] == "application/problem+json"
        if not fits:
            wrong.append((case.name, response.status_code, response.text[:200]))
        assert list(uploads.iterdir()) == []
    assert wrong == []


def test_a_failing_log_ends_the_answer_with_an_error(
    service: Service, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = service.app.state.services.spool
    append, calls = spool.append, []

    def full(entries: Any) -> None:
        calls.append(len(entries))
        if len(calls) > 1:
            raise RecordsAway("The prediction log cannot be written.")
        append(entries)

    monkeypatch.setattr(spool, "append", full)
    *rows, last = lines(send(service, BATCH, table))
    assert last["code"] == "records-away"
    assert len(rows) == calls[0]
    calls.append(1)
    assert send(service, BATCH, table).status_code == 503


@pytest.mark.parametrize(
    "files",
    [
        {"other": ("x.csv", "a", "text/csv")},
        [("file", ("x.csv", "a")), ("file", ("y.csv", "b"))],
        {"file": (None, "a")},
    ],
)
def test_a_form_needs_one_file(service: Service, files: Any, uploads: Path) -> None:
    response = send_form(service, BATCH, files)
    assert (response.status_code, response.json()["code"]) == (400, "body-unreadable")
    assert list(uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", "x", 400),
        ("multipart/form-data; boundary=a", "--b\r\n", 400),
        ("multipart/form-data; boundary=a", "--a\r\n\r\nx", 400),
        ("multipart/form-data; boundary=a", FORM_FILE + "mean_radius\r\n", 400),
        ("application/zip", "PK", 415),
        ("", "a,b", 415),
    ],
)
def test_other_uploads_are_refused(service: Service, kind: str, body: str, status: int) -> None:
    assert send(service, LABELLED, body, kind).status_code == status


def test_an_upload_has_a_limit(start: Any, releases: Any, fitted: Any, table: str) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    small = start(upload_limit_mb=1)
    for kind in ("text/csv", "application/json"):
        response = send(small, BATCH, b" " * (1024 * 1024 + 1), kind)
        assert (response.status_code, response.json()["code"]) == (413, "body-too-large")


def test_labelled_rows_land_once_and_become_a_batch(
    service: Service, table: str, wdbc: Any, store: Any
) -> None:
    first = send(service, LABELLED, table)
    assert first.status_code == 201
    report = first.json()
    assert (report["rows"], report["usable"], report["known"]) == (569, 569, False)
    assert report["labels"] == {"malignant": 212, "benign": 357}
    again = send_form(service, "/upload-data", {"file": ("x.csv", table, "text/csv")})
    assert (again.status_code, again.json()) == (200, report | {"known": True})
    ingested = ingest_landing(wdbc, store)
    assert [batch.batch for batch in ingested.batches] == [report["batch"]]
    assert ingested.batches[0].accepted == 569


def test_the_report_names_unusable_rows(
    service: Service, table: str, wdbc: Any, store: Any
) -> None:
    damaged = table.replace("17.99", "x", 1).replace("p1,0", "p1,maybe", 1)
    report = send(service, LABELLED, damaged).json()
    assert (report["usable"], report["unusable"]) == (567, 2)
    assert [(d["line"], d["feature"]) for d in report["defects"]] == [
        (2, "mean_radius"),
        (3, "diagnosis"),
    ]
    assert ingest_landing(wdbc, store).batches[0].quarantined == 2


def labelled_rows(table: str, *rows: tuple[str, str, int]) -> str:
    """A file of rows given by id, label and the row of the table that has their values."""
    header, *known = table.splitlines()
    lines = [",".join([name, label, known[row].split(",", 2)[2]]) for name, label, row in rows]
    return "\n".join([header, *lines]) + "\n"


@pytest.mark.parametrize(
    ("rows", "usable"),
    [
        ([("Z", "M", 0), ("Z", "M", 1), ("Y", "B", 19)], 1),
        ([("Q1", "M", 0), ("Q2", "B", 0), ("Y", "B", 19)], 1),
        ([("R", "M", 0), ("R", "M", 0), ("Y", "B", 19)], 2),
        ([("A", "M", 0), ("B", "0", 1), ("Y", "B", 19)], 2),
    ],
    ids=["id of several", "labels differ", "repeat", "code among words"],
)
def test_the_report_counts_as_usable_what_ingest_accepts(
    service: Service,
    table: str,
    wdbc: Any,
    store: Any,
    rows: list[tuple[str, str, int]],
    usable: int,
) -> None:
    answer = send(service, LABELLED, labelled_rows(table, *rows))
    report = answer.json()
    assert (answer.status_code, report["usable"], report["unusable"]) == (201, usable, 3 - usable)
    assert sum(report["labels"].values()) == usable
    (batch,) = ingest_landing(wdbc, store).batches
    assert (batch.accepted, batch.quarantined) == (usable, 3 - usable)
    assert [(d["line"], d["feature"], d["reason"]) for d in report["defects"]] == [
        (defect.line, defect.column, defect.reason) for defect in batch.problems
    ]


def test_a_file_of_rows_that_contradict_each_other_is_not_landed(
    service: Service, table: str, store: Any
) -> None:
    refused = send(service, LABELLED, labelled_rows(table, ("Z", "M", 0), ("Z", "M", 1)))
    assert (refused.status_code, refused.json()["code"]) == (422, "rows-rejected")
    assert "stands for other values elsewhere in the file" in refused.json()["detail"]
    assert not store.landing.exists() or list(store.landing.iterdir()) == []


def recoded(table: str, rows: int, texts: dict[str, str]) -> str:
    """The first rows of a table, with other labels."""
    cells = [line.split(",", 2) for line in table.splitlines()[: rows + 1]]
    lines = [",".join([one, texts.get(label, label), rest]) for one, label, rest in cells]
    return "\n".join(lines) + "\n"


def test_csv_may_be_declared_as_browsers_do_and_workbooks_get_help(
    service: Service, table: str
) -> None:
    for kind in ("application/vnd.ms-excel", "application/csv", "text/csv; charset=utf-8"):
        for path in (BATCH, LABELLED, "/invocations"):
            assert send(service, path, table, kind).status_code in (200, 201)
    for path in (BATCH, LABELLED):
        excel = send(service, path, b"PK\x03\x04[Content_Types].xml", "application/vnd.ms-excel")
        assert (excel.status_code, "Save it as CSV" in excel.text) == (422, True)
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    for path in (BATCH, LABELLED, "/v1/predict", "/invocations"):
        refused = send(service, path, b"PK\x03\x04", kind)
        assert (refused.status_code, "save it as CSV" in refused.text) == (415, True)


def test_json_and_csv_take_the_same_ids(service: Service, reference: Any, wdbc: Any) -> None:
    row = dict(zip(wdbc.schema.names, reference[0][19].tolist(), strict=True))
    body = b"\xef\xbb\xbf" + json.dumps([row | {"id": 1001}, {"id": 7, "features": row}]).encode()
    answered = lines(send(service, BATCH, body, "application/json"))
    assert [line["id"] for line in answered[:-1]] == ["1001", "7"]


def test_an_empty_column_is_named_in_the_summary(service: Service, table: str) -> None:
    wide = "".join(f"{line},\n" for line in table.splitlines()[:3])
    wide = wide.replace(",\n", ",Unnamed: 32\n", 1)
    said = ["column 33 has no name of its own and was passed over"]
    assert lines(send(service, BATCH, wide))[-1]["summary"]["notices"] == said
    assert "notices" not in lines(send(service, BATCH, table))[-1]["summary"]


def test_lost_line_ends_repeat_nothing(service: Service, table: str) -> None:
    marked = table.replace("p0", "Mueller-4711").replace("17.99", "17.4711", 1)
    for joined in ("", "|", " "):
        for count in (1, 2, 3):
            body = joined.join(marked.splitlines()[: count + 1])
            answer = send(service, BATCH, body)
            assert answer.status_code == 422
            assert "4711" not in answer.text
            assert "Mueller" not in answer.text
    assert "one line" in answer.text


def test_an_upload_declares_its_label_codes(
    service: Service, table: str, wdbc: Any, store: Any
) -> None:
    swapped = recoded(table, 60, {"0": "1.0", "1": "0.0"})
    refused = send(service, LABELLED, swapped)
    assert (refused.status_code, refused.json()["code"]) == (422, "labels-refused")
    assert "of 60 rows of the upload are labelled against" in refused.json()["detail"]
    assert not store.landing.exists()
    landed = send(service, f"{LABELLED}?label_codes=0=benign,1=malignant", swapped)
    assert landed.status_code == 201
    assert (
        landed.json()["labels"] == send(service, LABELLED, recoded(table, 60, {})).json()["labels"]
    )
    other = send(service, f"{LABELLED}?label_codes=0=malignant,1=benign", swapped)
    assert other.json()["code"] == "labels-refused"
    batches = ingest_landing(wdbc, store).batches
    assert {batch.accepted for batch in batches} == {60}
    (first, second) = (read_batch(wdbc, store, batch).codes.tolist() for batch in batches)
    assert first == second


def test_codes_of_few_rows_and_swapped_words_are_refused(service: Service, table: str) -> None:
    few = recoded(table, 2, {})
    refused = send(service, LABELLED, few).json()
    assert refused["code"] == "labels-refused"
    assert "label_codes" in refused["detail"]
    assert send(service, f"{LABELLED}?label_codes=0=M,1=B", few).status_code == 201
    words = recoded(table, 60, {"0": "benign", "1": "malignant"})
    assert send(service, LABELLED, words).json()["code"] == "labels-refused"
    for wrong in ("", "0=malignant", "0=x,1=y"):
        answer = send(service, f"{LABELLED}?label_codes={wrong}", few)
        assert (answer.status_code, answer.json()["code"]) == (400, "header-refused")


def test_files_without_a_usable_row_are_not_landed(
    service: Service, table: str, store: Any
) -> None:
    unlabelled = "\n".join(",".join(np.delete(line.split(","), 1)) for line in table.splitlines())
    assert send(service, LABELLED, unlabelled).json()["code"] == "schema-mismatch"
    wrong = table.splitlines()[0] + "\np0,?," + ",".join(["x"] * 30) + "\n"
    refused = send(service, LABELLED, wrong)
    assert (refused.status_code, refused.json()["code"]) == (422, "rows-rejected")
    assert not store.landing.exists() or list(store.landing.iterdir()) == []


def test_a_refusal_names_what_a_request_can_change(service: Service, table: str) -> None:
    swapped = send(service, LABELLED, recoded(table, 60, {"0": "1", "1": "0"})).json()["detail"]
    assert "?label_codes=0=benign,1=malignant" in swapped
    few = send(service, LABELLED, recoded(table, 1, {})).json()["detail"]
    assert "its 1 row by itself does not show" in few
    assert "--label-codes" not in swapped + few
    refused = send(service, BATCH, b"PAR1", "application/vnd.apache.parquet")
    assert refused.status_code == 415
    for kind in ("application/json", "text/csv", "multipart/form-data"):
        assert kind in refused.json()["detail"]


def test_an_explanation_sums_to_the_log_odds(service: Service, reference: Any, wdbc: Any) -> None:
    record = {"features": reference[0][19].tolist()}

    def ask(path: str) -> Any:
        return send(service, path, record, "application/json")

    explained = ask("/v1/explain").json()
    single = ask("/v1/predict?explain=true").json()
    plain = ask("/v1/predict?explain=false").json()
    assert explained["explanation"] == single["explanation"]
    assert "explanation" not in plain
    for key in ("label", "probabilities", "model_version"):
        assert explained[key] == plain[key]
    found = explained["explanation"]
    assert (found["method"], set(found["contributions"])) == ("linear", set(wdbc.schema.names))
    total = found["base_log_odds"] + sum(found["contributions"].values())
    probability = plain["probabilities"]["malignant"]
    assert abs(total - np.log(probability / (1 - probability))) <= 1e-9
    wrong = ask("/v1/predict?explain=perhaps")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "header-refused")


def test_a_small_list_is_parsed_outside_of_the_event_loop(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding the defects of a few kilobytes takes tens of milliseconds."""
    threads = []

    def parse(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        return json_rows(*arguments)

    monkeypatch.setattr(batches, "json_rows", parse)
    assert send(service, BATCH, [{}], "application/json").status_code == 200
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_list_of_too_many_values_is_refused_before_it_is_parsed(service: Service) -> None:
    response = send(service, BATCH, b"[" + b"1," * 400_000 + b"1]", "application/json")
    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")


def test_rows_after_too_many_defects_are_not_parsed(service: Service, reference: Any) -> None:
    strange = [{f"mean_{row}_{column}": 1 for column in range(30)} for row in range(1000)]
    sound = {"features": reference[0][0].tolist()}
    start = time.process_time()
    *rows, end = lines(send(service, BATCH, [sound, *strange, sound], "application/json"))
    assert within_loops(time.process_time() - start, 100)
    assert "prediction" in rows[0]
    assert len(rows[10]["defects"]) > 30
    assert [defect["reason"][:12] for defect in rows[-1]["defects"]] == ["was not read"]
    assert end["summary"]["refused"] == 1001


@pytest.mark.parametrize(
    ("path", "kind", "size"),
    [
        (BATCH, "application/json", 12 << 20),
        ("/v2/models/wdbc/infer", "application/json", 12 << 20),
        ("/invocations", "application/json", 12 << 20),
        ("/invocations", "text/csv", 12 << 20),
        ("/predict", "application/json", 1 << 19),
    ],
)
def test_unfinished_bodies_are_not_held_in_memory(
    service: Service, path: str, kind: str, size: int, uploads: Path
) -> None:
    part, several = b" " * (64 << 10), 24
    sent, end = 0, asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(size // len(part)):
            sent += len(part)
            yield part
        await end.wait()
        yield b"{"

    async def everybody() -> tuple[int, list[int]]:
        before = tracemalloc.get_traced_memory()[0]
        headers = {"X-API-Key": KEY, "Content-Type": kind}
        pending = [
            asyncio.create_task(service.ask("POST", path, content=slowly(), headers=headers))
            for _ in range(several)
        ]
        while sent < several * size:
            await asyncio.sleep(0.01)
        grown = tracemalloc.get_traced_memory()[0] - before
        assert list(uploads.iterdir()) == []
        end.set()
        return grown, [answer.status_code for answer in await asyncio.gather(*pending)]

    tracemalloc.start()
    try:
        grown, statuses = service.run(everybody())
    finally:
        tracemalloc.stop()
    assert grown < several * size / 4
    assert set(statuses) <= {400, 422}


def test_an_upload_is_stored_without_a_file_name(
    service: Service, table: str, uploads: Path
) -> None:
    seen: list[list[Path]] = []

    async def in_parts() -> AsyncIterator[bytes]:
        for start in range(0, len(table), 1 << 16):
            yield table[start : start + (1 << 16)].encode()
            seen.append(list(uploads.iterdir()))

    headers = {"X-API-Key": KEY, "Content-Type": "text/csv"}
    answer = service.request("POST", BATCH, content=in_parts(), headers=headers)
    assert lines(answer)[-1]["summary"]["answered"] == 569
    assert len(seen) > 1
    assert not any(seen)


def test_of_a_parsed_list_only_the_numbers_stay_in_memory(service: Service, reference: Any) -> None:
    record = json.dumps({"features": reference[0][0].tolist(), "id": "a"})
    tracemalloc.start()
    try:
        body = f"[{','.join([record.ljust(8000)] * 1000)}]".encode()
        rows = json_rows(service.model.current.parser, body)
        assert next(rows)[1] == next(rows)[1]
        del body
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000
    assert len(list(rows)) == 998
