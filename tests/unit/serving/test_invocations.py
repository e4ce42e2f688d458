"""MLflow's scoring protocol over a started application."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from bc_pipeline import __version__
from bc_pipeline.serving.request_parsing.rows import ROW_LIMIT
from tests.unit.serving.conftest import KEY

CANARY = 13.37424242


def invoke(service: Any, body: Any, kind: str = "application/json") -> httpx.Response:
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    answer: httpx.Response = service.request(
        "POST",
        "/invocations",
        content=text,
        headers={"X-API-Key": KEY, "Content-Type": kind},
    )
    return answer


@pytest.fixture
def rows(reference: Any) -> list[list[float]]:
    values: list[list[float]] = reference[0][:4].tolist()
    return values


@pytest.fixture
def names(wdbc: Any) -> list[str]:
    return list(wdbc.schema.names)


@pytest.fixture
def records(rows: list[list[float]], names: list[str]) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.fixture
def columns(rows: list[list[float]], names: list[str]) -> dict[str, list[float]]:
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


@pytest.fixture
def expected(fitted: Any, reference: Any) -> np.ndarray:
    chances: np.ndarray = fitted[0].estimator.predict_proba(reference[0][:4])
    return chances


def as_csv(names: list[str], rows: list[list[Any]]) -> str:
    return "\n".join(",".join(map(str, cells)) for cells in [names, *rows]) + "\n"


def test_every_format_gives_the_probabilities_of_both_labels(
    service: Any,
    rows: Any,
    names: Any,
    records: Any,
    columns: Any,
    expected: np.ndarray,
    reference: Any,
) -> None:
    split = {"columns": names, "data": rows}
    backwards = {"columns": names[::-1], "data": [row[::-1] for row in rows]}
    bodies: list[tuple[Any, str]] = [
        ({"dataframe_split": split}, "application/json"),
        ({"dataframe_split": split | {"index": list("abcd")}}, "application/json; charset=utf-8"),
        ({"dataframe_split": backwards}, "application/json"),
        ({"dataframe_split": {"data": rows}}, "application/json"),
        ({"dataframe_records": records}, "application/json"),
        ({"inputs": rows}, "application/json"),
        ({"inputs": records}, "application/json"),
        ({"inputs": columns}, "application/json"),
        ({"instances": rows}, "application/json"),
        ({"instances": records}, "application/json"),
        ({"instances": columns}, "application/json"),
        (as_csv(names, rows), "text/csv"),
        (as_csv(names, rows).replace("\n", "\r\n\r\n"), 'text/csv; charset="UTF-8"'),
        ("\ufeff" + as_csv([f'"{name}"' for name in names], rows), "text/csv;charset=utf-8"),
    ]
    for body, kind in bodies:
        text = body.encode() if isinstance(body, str) else body
        answer = invoke(service, text, kind)
        assert answer.status_code == 200, answer.text
        assert np.abs(np.array(answer.json()["predictions"]) - expected).max() <= 1e-12
        assert len(set(answer.json()["prediction_ids"])) == len(rows)
        assert answer.headers["x-model-version"] == "v1"


def test_all_reference_rows(service: Any, reference: Any, fitted: Any, names: Any) -> None:
    values = reference[0]
    body = {"dataframe_split": {"columns": names, "data": values.tolist()}}
    answer = np.array(invoke(service, body).json()["predictions"])
    assert np.abs(answer[:, 1] - fitted[0].probability).max() <= 1e-12


def test_a_single_record_is_one_row(service: Any, records: Any, expected: np.ndarray) -> None:
    for form in ("inputs", "instances"):
        answer = invoke(service, {form: records[0]})
        assert np.abs(np.array(answer.json()["predictions"]) - expected[:1]).max() <= 1e-12


def test_other_columns_and_members_are_ignored(
    service: Any, names: Any, rows: Any, records: Any, columns: Any
) -> None:
    wider = [["patient", *row] for row in rows]
    for body in (
        {"dataframe_split": {"columns": ["id", *names], "data": wider}, "params": {"a": 1}},
        {"dataframe_records": [record | {"note": "x"} for record in records], "other": None},
        {"inputs": columns | {"note": ["x"] * 4}, "params": None},
    ):
        assert invoke(service, body).status_code == 200
    assert invoke(service, as_csv(["", *names], wider), "text/csv").status_code == 200


def test_names_of_other_dialects_are_accepted(service: Any, names: Any, rows: Any) -> None:
    spelled = [name.replace("_", " ") for name in names]
    body = {"dataframe_split": {"columns": spelled, "data": rows}}
    assert invoke(service, body).status_code == 200


def test_exactly_one_format_is_required(service: Any, rows: Any) -> None:
    text = json.dumps(rows)
    for body in (
        {},
        [],
        5,
        {"data": rows},
        {"inputs": rows, "instances": rows},
        f'{{"inputs": {text}, "inputs": {text}}}',
    ):
        answer = invoke(service, body)
        assert (answer.status_code, answer.json()["code"]) == (400, "request-refused")


def test_unknown_names_are_listed_once_with_suggestions(
    service: Any, names: Any, rows: Any, records: Any, columns: Any
) -> None:
    misspelt = ["mean_radus", *names[1:]]
    bodies: list[tuple[Any, str]] = [
        ({"dataframe_split": {"columns": misspelt, "data": rows}}, "application/json"),
        (
            {
                "inputs": {
                    "mean_radus" if one == "mean_radius" else one: columns[one] for one in columns
                }
            },
            "application/json",
        ),
        (
            {"dataframe_records": [dict(zip(misspelt, row, strict=True)) for row in rows]},
            "application/json",
        ),
        (as_csv(misspelt, rows), "text/csv"),
    ]
    for body, kind in bodies:
        answer = invoke(service, body, kind)
        assert answer.status_code == 422
        assert answer.json()["defects"] == [
            {"feature": "mean_radius", "reason": "is missing"},
            {
                "feature": "mean_radus",
                "reason": "is not a feature; did you mean 'mean_radius'?",
            },
        ]


def test_a_repeated_name_is_a_defect(service: Any, names: Any, rows: Any, records: Any) -> None:
    twice = {"columns": [*names, "mean radius"], "data": [[*row, row[0]] for row in rows]}
    repeated = json.dumps(records[0])[:-1] + ', "mean_radius": 5}'
    for body in (
        {"dataframe_split": twice},
        f'{{"dataframe_records": [{repeated}]}}',
        f'{{"dataframe_records": [{repeated}, {json.dumps(records[1])}]}}',
    ):
        answer = invoke(service, body)
        assert answer.status_code == 422
        (defect,) = answer.json()["defects"]
        assert defect["feature"] == "mean_radius"
        assert "given twice" in defect["reason"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "is missing"),
        (str(CANARY), "is not a number"),
        (True, "is not a number"),
        ([CANARY], "is not a number"),
        ({"a": CANARY}, "is not a number"),
        (CANARY * 1e6, "is outside the physical range"),
        (float("inf"), "is not a finite number"),
        (float("nan"), "is missing or not a number"),
    ],
)
def test_defects_name_row_and_feature_and_no_value(
    service: Any, records: Any, value: Any, reason: str
) -> None:
    records[2]["mean_texture"] = value
    answer = invoke(service, {"dataframe_records": records})
    assert answer.status_code == 422
    (defect,) = answer.json()["defects"]
    assert defect["feature"] == "mean_texture"
    assert defect["reason"].startswith(f"in row 3 {reason}")
    assert "13.37" not in answer.text
    assert "13374242" not in answer.text


def test_a_record_without_a_feature_is_a_defect(service: Any, records: Any) -> None:
    del records[1]["mean_radius"]
    answer = invoke(service, {"dataframe_records": records})
    assert answer.json()["defects"] == [{"feature": "mean_radius", "reason": "in row 2 is missing"}]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "is missing"),
        ("abc", "is not a number"),
        ("nan", "is not a number"),
        ("1_0", "is not a number"),
        ("0x1p3", "is not a number"),
        ("=1+1", "is not a number"),
        ("1e400", "is not a finite number"),
    ],
)
def test_cells_of_csv(service: Any, names: Any, rows: Any, cell: str, reason: str) -> None:
    rows[1][1] = cell
    answer = invoke(service, as_csv(names, rows), "text/csv")
    assert answer.status_code == 422
    assert answer.json()["defects"] == [{"feature": "mean_texture", "reason": f"in row 2 {reason}"}]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"", 400),
        (b"\n\n", 400),
        (b"\xff\xfe", 400),
        (b"PK\x03\x04\xff", 400),
        (b"\x1f\x8b\x08\x00", 400),
        (b'"mean_radius', 400),
        (b"a,b\n1,2\n", 422),
        (b"," * 5000, 422),
        (b"a" * 200_000, 400),
        (b"\n" * 100_000, 413),
        (b"," * 600_000, 413),
    ],
)
def test_invalid_csv_is_refused(service: Any, text: bytes, status: int) -> None:
    answer = invoke(service, text, "text/csv")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_file_that_is_no_table_is_named(service: Any) -> None:
    answer = invoke(service, "<!DOCTYPE html>\n<html></html>\n", "text/csv")
    assert answer.status_code == 400
    assert "is an HTML page" in answer.text
    assert "Download the file itself" in answer.text


def test_csv_rows_must_be_as_wide_as_the_header(service: Any, names: Any, rows: Any) -> None:
    for text in (
        as_csv(names, [*rows, [1, 2]]),
        as_csv(names, [*rows, [*rows[0], 1]]),
        as_csv(names, []),
        as_csv(names, rows).replace(",", ";"),
    ):
        assert invoke(service, text, "text/csv").status_code == 422


def test_the_number_of_rows_is_limited(service: Any, rows: Any, names: Any) -> None:
    body = {"inputs": [rows[0]] * ROW_LIMIT}
    answer = invoke(service, body)
    assert len(answer.json()["predictions"]) == ROW_LIMIT
    body["inputs"].append(rows[1])
    assert invoke(service, body).status_code == 422
    assert invoke(service, as_csv(names, body["inputs"]), "text/csv").status_code == 422


@pytest.mark.parametrize(
    "kind",
    [
        "text/xml",
        "application/json; charset=latin-1",
        "application/json; format=pandas-split",
        "text/csv; charset=latin-1",
        "text/csv; header=present",
        "application/vnd.apache.parquet",
    ],
)
def test_other_media_types_are_refused(service: Any, kind: str) -> None:
    assert invoke(service, b"{}", kind).status_code == 415


def test_ping_and_version(service: Any) -> None:
    assert service.get("/ping").json() == {"status": "ok"}
    assert service.get("/health").status_code == 200
    assert service.get("/version").text == __version__
    assert service.request("POST", "/invocations", content=b"{}").status_code == 401


def test_ping_without_a_model(releases: Any, start: Any) -> None:
    assert start().get("/ping").status_code == 503
