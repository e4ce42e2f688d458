"""The Open Inference Protocol V2 over a started application."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import numpy as np
import pytest

from bc_pipeline import __version__
from tests.unit.serving.conftest import KEY

INFER = "/v2/models/wdbc/infer"
CANARY = 13.37424242
OUTPUTS = ["probability", "label", "prediction", "prediction_id"]


def infer(service: Any, body: Any, path: str = INFER, **headers: str) -> httpx.Response:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer: httpx.Response = service.request(
        "POST", path, content=text, headers={"X-API-Key": KEY} | named
    )
    return answer


def get(service: Any, path: str) -> httpx.Response:
    answer: httpx.Response = service.request("GET", path, headers={"X-API-Key": KEY})
    return answer


def tensor(values: np.ndarray, **changes: Any) -> dict[str, Any]:
    made = {
        "name": "features",
        "datatype": "FP64",
        "shape": list(values.shape),
        "data": values.ravel().tolist(),
    }
    return {name: value for name, value in (made | changes).items() if value is not ...}


def ask(values: np.ndarray, **changes: Any) -> dict[str, Any]:
    return {"inputs": [tensor(values, **changes)]}


def column(answer: httpx.Response, name: str) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return next(one["data"] for one in answer.json()["outputs"] if one["name"] == name)


def recorded(service: Any) -> bytes:
    """All that stands in the prediction log."""
    folder = service.app.state.services.settings.records
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def packed(values: np.ndarray, content: dict[str, Any], kind: str = "<f8") -> tuple[bytes, str]:
    """A body with a binary tensor, and the length of its JSON."""
    blob = values.astype(kind).tobytes()
    content["inputs"][0].pop("data", None)
    content["inputs"][0]["parameters"] = {"binary_data_size": len(blob)}
    text = json.dumps(content).encode()
    return text + blob, str(len(text))


@pytest.fixture
def rows(reference: Any) -> np.ndarray:
    values: np.ndarray = reference[0][:5]
    return values


def test_server_and_model_describe_themselves(service: Any) -> None:
    assert get(service, "/v2").json() == {
        "name": "bc-pipeline",
        "version": __version__,
        "extensions": ["binary_tensor_data"],
    }
    described = get(service, "/v2/models/wdbc").json()
    assert described["versions"] == ["v1"]
    assert described["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 30]}]
    assert [(one["name"], one["datatype"], one["shape"]) for one in described["outputs"]] == [
        ("probability", "FP64", [-1]),
        ("label", "BYTES", [-1]),
        ("prediction", "INT64", [-1]),
        ("prediction_id", "BYTES", [-1]),
    ]
    assert get(service, "/v2/models/wdbc/versions/v1").json() == described


def test_health_needs_no_key(service: Any) -> None:
    for path in ("live", "ready"):
        assert service.get(f"/v2/health/{path}").json() == {path: True}
    for path in ("/v2/models/wdbc/ready", "/v2/models/wdbc/versions/v1/ready"):
        assert service.get(path).json() == {"name": "wdbc", "ready": True}
    assert service.get("/v2").status_code == 401
    assert service.request("POST", INFER, content=b"{}").status_code == 401


def test_without_a_model_only_the_process_is_live(releases: Any, start: Any) -> None:
    service = start()
    assert service.get("/v2/health/live").status_code == 200
    for path in ("/v2/health/ready", "/v2/models/wdbc/ready"):
        answer = service.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "no-champion")
        assert answer.json()["error"]
        assert answer.headers["retry-after"]


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/wdbc/versions/v0"])
def test_only_the_current_version_answers(service: Any, rows: np.ndarray, path: str) -> None:
    answers = [get(service, path), service.get(path + "/ready")]
    answers.append(infer(service, ask(rows), path + "/infer"))
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (404, "not-there")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] in answer.json()["error"]


def test_every_row_is_answered_and_recorded(
    service: Any, reference: Any, fitted: Any, wdbc: Any
) -> None:
    values, _ = reference
    answer = infer(service, ask(values) | {"id": "request-7"})
    assert answer.json()["id"] == "request-7"
    assert answer.json()["model_version"] == answer.headers["x-model-version"] == "v1"
    assert answer.json()["parameters"]["threshold"] == 0.4
    probability = np.array(column(answer, "probability"))
    assert np.abs(probability - fitted[0].probability).max() <= 1e-12
    called = (fitted[0].probability > 0.4).tolist()
    assert column(answer, "label") == [wdbc.labels.name(one) for one in called]
    assert column(answer, "prediction") == [wdbc.labels.code(one) for one in called]
    identifiers = column(answer, "prediction_id")
    assert len(set(identifiers)) == len(values)
    assert all(identifier.encode() in recorded(service) for identifier in identifiers)


def test_data_may_be_nested_and_integers(service: Any, rows: np.ndarray) -> None:
    flat = column(infer(service, ask(rows)), "probability")
    assert column(infer(service, ask(rows, data=rows.tolist())), "probability") == flat
    whole = [[int(cell) if cell == int(cell) else cell for cell in row] for row in rows.tolist()]
    assert column(infer(service, ask(rows, data=whole)), "probability") == flat


def test_fp32_values_are_rounded_as_declared(service: Any, rows: np.ndarray) -> None:
    rounded = rows.astype("<f4").astype("<f8")
    expected = column(infer(service, ask(rounded)), "probability")
    assert column(infer(service, ask(rows, datatype="FP32")), "probability") == expected
    body, length = packed(rows, ask(rows, datatype="FP32"), "<f4")
    answer = infer(service, body, inference_header_content_length=length)
    assert column(answer, "probability") == expected


def test_outputs_are_returned_in_the_requested_order(service: Any, rows: np.ndarray) -> None:
    body = ask(rows) | {"outputs": [{"name": "label"}, {"name": "probability"}]}
    assert [one["name"] for one in infer(service, body).json()["outputs"]] == [
        "label",
        "probability",
    ]
    everything = infer(service, ask(rows) | {"outputs": []}).json()["outputs"]
    assert [one["name"] for one in everything] == OUTPUTS


def test_binary_tensors_as_input_and_output(service: Any, rows: np.ndarray) -> None:
    plain = infer(service, ask(rows))
    content = ask(rows) | {
        "parameters": {"binary_data_output": True, "priority": 3},
        "outputs": [
            {"name": "label"},
            {"name": "probability", "parameters": {"binary_data": False}},
            {"name": "prediction"},
        ],
    }
    body, length = packed(rows, content)
    answer = infer(
        service,
        body,
        inference_header_content_length=length,
        content_type="application/octet-stream",
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    end = int(answer.headers["inference-header-content-length"])
    label, probability, prediction = json.loads(answer.content[:end])["outputs"]
    assert probability["data"] == column(plain, "probability")
    blob = answer.content[end:]
    size = label["parameters"]["binary_data_size"]
    labels, offset = [], 0
    while offset < size:
        (length_of_text,) = struct.unpack_from("<I", blob, offset)
        offset += 4 + length_of_text
        labels.append(blob[offset - length_of_text : offset].decode())
    assert labels == column(plain, "label")
    assert np.frombuffer(blob[size:], "<i8").tolist() == column(plain, "prediction")
    assert len(blob) == size + prediction["parameters"]["binary_data_size"]


def test_defects_name_row_and_feature_and_no_value(
    service: Any, rows: np.ndarray, wdbc: Any
) -> None:
    values: list[Any] = rows.tolist()
    values[1][0] = None
    values[2][3] = str(CANARY)
    values[3][4] = CANARY * 1e6
    answer = infer(service, ask(rows, data=values))
    assert answer.status_code == 422
    names = wdbc.schema.names
    found = [(one["feature"], one["reason"]) for one in answer.json()["defects"]]
    assert found[:2] == [(names[0], "in row 2 is missing"), (names[3], "in row 3 is not a number")]
    assert found[2][0] == names[4]
    assert found[2][1].startswith("in row 4 is outside the physical range")
    assert f"{names[0]} in row 2 is missing" in answer.json()["error"]
    assert "13.37" not in answer.text


def test_with_a_bad_row_no_row_is_answered(service: Any, rows: np.ndarray) -> None:
    before = recorded(service)
    values = rows.copy()
    values[4, 0] = -1
    assert infer(service, ask(values)).status_code == 422
    assert recorded(service) == before
    assert infer(service, ask(rows)).status_code == 200
    assert recorded(service) != before


@pytest.mark.parametrize(
    "names",
    [["probabilities"], ["label", "output_0"], ["out_a", "out_b", "out_c", "out_d", "out_e"]],
)
def test_an_unknown_output_gets_the_names_there_are(
    service: Any, rows: np.ndarray, names: list[str]
) -> None:
    before = recorded(service)
    answer = infer(service, ask(rows) | {"outputs": [{"name": name} for name in names]})
    assert answer.status_code == 422
    for name in ("probability", "label", "prediction", "prediction_id"):
        assert name in answer.json()["error"]
    assert names[-1] not in answer.text
    assert recorded(service) == before


def test_an_output_is_requested_once(service: Any, rows: np.ndarray) -> None:
    answer = infer(service, ask(rows) | {"outputs": [{"name": "label"}, {"name": "label"}]})
    assert answer.status_code == 422
    assert "outputs[1].name repeats the output label" in answer.json()["error"]


def test_only_the_first_defects_are_listed(service: Any, rows: np.ndarray) -> None:
    values = np.full((1000, 30), -1.0)
    answer = infer(service, ask(values))
    assert answer.status_code == 422
    assert len(answer.json()["defects"]) == 100


def test_shared_memory_is_refused(service: Any, rows: np.ndarray) -> None:
    body = ask(rows, data=..., parameters={"shared_memory_region": "r"})
    assert infer(service, body).status_code == 422
    body = ask(rows) | {"outputs": [{"name": "label", "parameters": {"classification": 1}}]}
    assert infer(service, body).status_code == 422


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bodies_are_refused(service: Any, encoding: str) -> None:
    assert infer(service, b"x", content_encoding=encoding).status_code == 415


def test_other_media_types_are_refused(service: Any, rows: np.ndarray) -> None:
    assert infer(service, ask(rows), content_type="text/csv").status_code == 415
    for declared in ("application/json", "application/octet-stream"):
        assert infer(service, ask(rows), content_type=declared).status_code == 200


def test_large_bodies_are_refused_before_they_are_read(
    start: Any, releases: Any, fitted: Any, rows: np.ndarray
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    service = start(upload_limit_mb=1)
    answer = infer(service, b" " * (1024 * 1024 + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
    assert answer.json()["error"]
    assert infer(service, ask(rows)).status_code == 200


def test_an_unknown_output_is_not_called_a_feature(service: Any, rows: np.ndarray) -> None:
    answer = infer(service, ask(rows) | {"outputs": [{"name": "risk"}]})
    assert (answer.status_code, answer.json()["code"]) == (422, "schema-mismatch")
    assert answer.json()["title"] == "The input is not valid"
    assert "outputs[0].name is not an output" in answer.json()["error"]
