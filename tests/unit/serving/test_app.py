from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from bc_pipeline.errors import ArtifactCorrupt, ConfigError, SignatureInvalid
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.model.loaded_model import load_folder
from bc_pipeline.serving.request_parsing.body_stream import RECORD_LIMIT as BODY_LIMIT
from bc_pipeline.settings import Settings

KEY = "test-key-of-the-unit-tests"


@pytest.fixture(scope="module")
def rows(reference: tuple[np.ndarray, np.ndarray]) -> list[list[float]]:
    return reference[0][:40].tolist()


def test_predictions_are_those_of_scikit_learn(
    service: Any, rows: list[list[float]], fitted: Any
) -> None:
    for row, expected in zip(rows, fitted[0].probability, strict=False):
        answer = service.predict({"features": row}).json()
        malignant = expected > 0.4
        assert abs(answer["probabilities"]["malignant"] - expected) <= 1e-12
        assert abs(answer["probabilities"]["benign"] - (1 - expected)) <= 1e-12
        assert answer["prediction"] == (0 if malignant else 1)
        assert answer["label"] == ("malignant" if malignant else "benign")
        assert answer["probability"] == answer["probabilities"][answer["label"]]
        assert (answer["threshold"], answer["model_version"]) == (0.4, "v1")
        assert "id" not in answer


def test_the_call_is_malignant_only_above_the_threshold(
    releases: Any, fitted: Any, start: Callable[..., Any], rows: list[list[float]]
) -> None:
    # Answers to one row can differ from those to many by rounding: use the service's own.
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    service = start()
    exact = service.predict({"features": rows[1]}).json()["probabilities"]["malignant"]
    calls = {}
    for name, threshold in (
        ("on", exact),
        ("below", float(np.nextafter(exact, 0))),
        ("low", 0.01),
    ):
        releases.publish(name, fitted[0], threshold=threshold)
        releases.promote(name)
        service.model.refresh()
        calls[name] = service.predict({"features": rows[1]}).json()
    assert (calls["on"]["label"], calls["on"]["prediction"]) == ("benign", 1)
    assert (calls["below"]["label"], calls["below"]["prediction"]) == ("malignant", 0)
    assert calls["low"]["label"] == "malignant"


def test_a_malignant_call_below_one_half_has_its_own_probability(
    releases: Any, fitted: Any, start: Callable[..., Any], reference: Any
) -> None:
    releases.publish("v1", fitted[0], threshold=0.1)
    releases.promote("v1")
    between = np.flatnonzero((fitted[0].probability > 0.1) & (fitted[0].probability < 0.5))
    answer = start().predict({"features": reference[0][between[0]].tolist()}).json()
    assert answer["label"] == "malignant"
    assert answer["probability"] == answer["probabilities"]["malignant"] < 0.5


def test_the_answer_has_the_id_of_the_request(service: Any, rows: list[list[float]]) -> None:
    assert service.predict({"features": rows[0], "id": "A-17"}).json()["id"] == "A-17"


def test_without_a_champion_it_answers_503(start: Callable[..., Any]) -> None:
    service = start()
    health, answer = service.get("/health"), service.predict({"features": []})
    assert health.status_code == answer.status_code == 503
    assert health.json()["code"] == answer.json()["code"] == "no-champion"
    assert "retry-after" in answer.headers
    assert health.json()["refused"] == {"count": 0, "last": None}


def test_credentials_are_checked_before_the_body(start: Callable[..., Any]) -> None:
    answer = start().request("POST", "/predict", content=b"x" * (BODY_LIMIT + 1))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_health_reports_the_model_and_the_last_refusal(
    service: Any, releases: Any, fitted: Any
) -> None:
    healthy = service.get("/health").json()
    assert (healthy["status"], healthy["model_version"], healthy["generation"]) == ("ok", "v1", 1)
    assert healthy["loaded_at"].endswith("Z")
    assert healthy["refused"] == {"count": 0, "last": None}
    releases.publish("v2", fitted[1])
    (releases.store.version("v2") / "manifest.sig").unlink()
    releases.promote("v2")
    service.model.refresh()
    after = service.get("/health")
    assert after.status_code == 200
    assert after.json()["model_version"] == "v1"
    assert after.json()["refused"]["count"] == 1
    assert after.json()["refused"]["last"]["version"] == "v2"
    assert after.json()["refused"]["last"]["code"] == "signature-invalid"


def test_without_a_key_file_the_service_does_not_start(settings: Settings) -> None:
    with pytest.raises(ConfigError) as refused:
        create_app(settings)
    assert refused.value.setting == "BC_SERVICE_KEYS_FILE"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/json; charset=latin-1",
        "multipart/form-data; boundary=x",
    ],
)
def test_another_media_type_is_415(service: Any, content_type: str | None) -> None:
    headers = {"X-API-Key": KEY} | ({"Content-Type": content_type} if content_type else {})
    answer = service.request("POST", "/predict", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "media-type-refused")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_in_utf8_is_accepted(service: Any, rows: list[list[float]], content_type: str) -> None:
    answer = service.predict({"features": rows[0]}, headers={"Content-Type": content_type})
    assert answer.status_code == 200


def test_a_large_body_is_refused_by_its_declared_length_alone(service: Any) -> None:
    answer = service.predict(content=b"{}", headers={"Content-Length": str(BODY_LIMIT + 1)})
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/livez"),
        ("POST", "/v1/predict"),
        ("POST", "/v1/predict/batch"),
        ("GET", "/v1/model"),
    ],
)
@pytest.mark.parametrize("length", [(16 << 20) + 1, 2**63, 2**64 - 1])
def test_a_length_that_no_route_reads_is_refused_by_every_route(
    service: Any, method: str, path: str, length: int
) -> None:
    answer = service.request(method, path, headers={"Content-Length": str(length)})
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


def test_a_large_body_of_undeclared_length_is_not_read_to_its_end(service: Any) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        for _ in range(100):
            sent += 64 * 1024
            yield b" " * 64 * 1024

    answer = service.predict(content=endless())
    assert answer.status_code == 413
    assert sent <= BODY_LIMIT + 2 * 64 * 1024


def test_a_body_of_exactly_the_limit_is_read(service: Any, rows: list[list[float]]) -> None:
    body = json.dumps({"features": rows[0]}).encode()
    assert service.predict(content=body.ljust(BODY_LIMIT)).status_code == 200
    assert service.predict(content=body.ljust(BODY_LIMIT + 1)).status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("DELETE", "/health", 405),
        ("GET", "/nothing", 404),
        ("POST", "/predict/", 404),
    ],
)
def test_the_router_s_errors_are_problem_details(
    service: Any, method: str, path: str, status: int
) -> None:
    answer = service.request(method, path)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("allow" in answer.headers) == (status == 405)


def test_an_internal_error_is_a_problem_and_its_log_line_has_no_value(
    service: Any, rows: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def positive_one(self, values: Sequence[float]) -> float:
            raise RuntimeError(f"cannot do {values[0]}")

    monkeypatch.setattr(
        service.model, "current", replace(service.model.current, predictor=Broken())
    )
    with capture_logs() as logs:
        answer = service.predict({"features": rows[0]})
    assert (answer.status_code, answer.json()["code"]) == (500, "pipeline-error")
    written = json.dumps(logs, default=str)
    assert "RuntimeError at" in written
    assert str(rows[0][0]) not in written + answer.text


def test_a_model_that_answers_nan_is_an_internal_error(
    service: Any, rows: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def positive_one(self, values: Sequence[float]) -> float:
            return float("nan")

    monkeypatch.setattr(
        service.model, "current", replace(service.model.current, predictor=Broken())
    )
    assert service.predict({"features": rows[0]}).status_code == 500


def access_lines(service: Any, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    service.app.state.services.access_log.flush()
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_the_access_log_has_no_values_of_requests(
    service: Any, rows: list[list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    with capture_logs() as logs:
        service.predict({"features": rows[0], "id": "patient-4711"})
        service.predict({"features": [7.123456], "id": "patient-4711"})
        service.request("GET", "/patients/4711?radius=17.99")
    requests = access_lines(service, capsys)
    assert [(entry["path"], entry["status"], entry.get("model")) for entry in requests] == [
        ("/predict", 200, "v1"),
        ("/predict", 422, "v1"),
        ("(other)", 404, None),
    ]
    written = json.dumps([logs, requests], default=str)
    for value in ("4711", "17.99", "7.123456", KEY):
        assert value not in written


def test_the_request_id_of_an_answer_is_in_the_access_log(
    service: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = service.get("/")
    assert answer.headers["x-request-id"] == access_lines(service, capsys)[-1]["request"]
    assert answer.headers["cache-control"] == "no-store"


def test_the_root_has_the_notice_and_working_links(service: Any) -> None:
    content = service.get("/").json()
    assert "not a medical device" in content["notice"]
    for link in content["links"].values():
        assert service.get(link).status_code in (200, 401, 405)


def test_a_pinned_model_ignores_the_registry(
    releases: Any, fitted: Any, settings: Settings, api_key: str
) -> None:
    live = load_folder(releases.challenger("unpublished", fitted[2]), settings)
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    app = create_app(settings, live)
    app.state.services.model_watcher.refresh()
    assert app.state.services.model_watcher.current.version == "unpublished"
    assert app.state.services.model_watcher.current.source == "folder"


def test_a_folder_is_verified_like_a_champion(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    folder = releases.challenger("unpublished", fitted[2])
    (folder / "model.onnx").write_bytes(fitted[1].graph)
    with pytest.raises(ArtifactCorrupt):
        load_folder(folder, settings)
    (folder / "manifest.sig").unlink()
    with pytest.raises(SignatureInvalid):
        load_folder(folder, settings)


def test_the_root_greets_a_browser_and_gives_others_json(
    service: Any, start: Callable[..., Any]
) -> None:
    page = service.request("GET", "/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "not a medical device" in page.text
    assert "<code>v1</code>" in page.text
    assert "Predictions are answered." in page.text
    assert "Airflow" not in page.text
    for accept in ("*/*", "application/json", ""):
        plain = service.request("GET", "/", headers={"Accept": accept})
        assert plain.json()["links"]["docs"] == "/docs"
    assert page.headers["vary"] == plain.headers["vary"] == "Accept"
    shown = start(airflow_url="https://user:secret@airflow.example:8443/ui?x=<y>")
    text = shown.request("GET", "/", headers={"Accept": "text/html"}).text
    assert 'href="https://airflow.example:8443/ui"' in text
    assert "secret" not in text
    odd = start(airflow_url="javascript:alert(1)")
    assert "javascript" not in odd.request("GET", "/", headers={"Accept": "text/html"}).text


def test_the_root_says_that_no_model_is_live(start: Callable[..., Any]) -> None:
    page = start().request("GET", "/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "Predictions are not answered." in page.text
    assert "Champion" not in page.text


def test_a_stripped_prefix_is_in_every_address_that_is_given(
    service: Any, start: Callable[..., Any]
) -> None:
    below = start(root_path="/predictions")
    assert below.get("/openapi.json").json()["servers"] == [{"url": "/predictions"}]
    assert "servers" not in service.get("/openapi.json").json()
    links = below.request("GET", "/", headers={"Accept": "*/*"}).json()["links"]
    assert all(link.startswith("/predictions/") for link in links.values())
    for path, status in (("/nothing", 404), ("/v2/models/other", 401), ("/predict", 405)):
        error = below.get(path)
        assert error.status_code == status
        assert error.json()["type"] == f"/predictions/problems#{error.json()['code']}"
    _, refused = below.app.protocol_error(HTTPStatus.BAD_REQUEST, "It cannot be read.", [])
    assert json.loads(refused)["type"] == "/predictions/problems#request-refused"
    # The proxy strips it.
    assert below.get("/docs").status_code == 200


@pytest.mark.parametrize("path", ["predictions", "/predictions/", "/a b", "//evil.example", "/"])
def test_a_prefix_that_is_none_is_refused(settings: Settings, path: str) -> None:
    with pytest.raises(ValidationError):
        Settings(home=settings.home, root_path=path)
