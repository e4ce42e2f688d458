"""Routes of predictions that are called directly answer as the framework's routing does."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter, Request, Response

from bc_pipeline.errors import DecryptionFailed, RecordsAway
from bc_pipeline.serving import direct_routes
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.direct_routes import DirectRoutes
from bc_pipeline.serving.scoped_route import ScopedRoute, needs
from bc_pipeline.serving.telemetry.access_log import AccessLog
from bc_pipeline.settings import Settings
from tests.unit.serving.conftest import KEY, Service

GOOD = {"Content-Type": "application/json", "X-API-Key": KEY}
PATHS = (
    "/predict",
    "/v1/predict",
    "/v1/predict?explain=true",
    "/v1/explain",
    "/v1/predict/batch",
    "/invocations",
    "/v2/models/wdbc/infer",
)


@pytest.fixture
def ways(same_ids: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Service, Service]]:
    """The service with direct routes and without; both make the same ids."""
    direct = Service(create_app(same_ids, worker="w1", use_fast_path=False))
    direct.get("/livez")
    monkeypatch.setattr(direct_routes, "_PREDICTIONS", "none")
    both = direct, Service(create_app(same_ids, worker="w2", use_fast_path=False))
    both[1].get("/livez")
    yield both
    for service in both:
        service.stop()


def bodies(row: list[float]) -> list[bytes]:
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 30], "data": row}
    contents: list[Any] = [
        {"features": row},
        [{"features": row, "id": "a"}],
        {"instances": [row]},
        {"inputs": [tensor]},
        {"features": {}},
    ]
    return [*(json.dumps(content).encode() for content in contents), b"{", b" " * (1 << 21)]


@pytest.mark.parametrize("path", PATHS)
def test_both_ways_give_the_same_bytes(
    ways: tuple[Service, Service], reference: Any, path: str
) -> None:
    statuses = set()
    for body in bodies(reference[0][0].tolist()):
        for headers in (GOOD, GOOD | {"X-API-Key": ""}, GOOD | {"Content-Type": "text/html"}):
            answers = [
                service.request("POST", path, headers=headers, content=body) for service in ways
            ]
            first, second = (
                (one.status_code, sorted(one.headers.raw), one.content) for one in answers
            )
            assert first == second
            statuses.add(first[0])
    assert statuses >= {200, 401, 415}
    for method in ("GET", "PUT", "OPTIONS"):
        first, second = (service.request(method, path, headers=GOOD) for service in ways)
        assert (first.status_code, first.headers.get("allow"), first.content) == (
            second.status_code,
            second.headers.get("allow"),
            second.content,
        )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "error", [RecordsAway("No room."), DecryptionFailed("x", key_id="k"), ValueError("canary")]
)
def test_both_ways_report_a_failure_alike(
    ways: tuple[Service, Service],
    reference: Any,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    error: Exception,
) -> None:
    def fail(*_: object) -> None:
        raise error

    row = reference[0][0].tolist()
    body = next(
        body
        for body in bodies(row)
        if ways[0].request("POST", path, headers=GOOD, content=body).status_code == 200
    )
    answers = []
    for service in ways:
        monkeypatch.setattr(service.app.state.services.spool, "append", fail)
        answers.append(service.request("POST", path, headers=GOOD, content=body))
    first, second = answers
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first.status_code in (500, 503)
    assert b"canary" not in first.content


@pytest.mark.parametrize("path", PATHS)
def test_both_ways_log_the_same_line(
    ways: tuple[Service, Service], reference: Any, path: str
) -> None:
    lines = []
    for service in ways:
        stream = io.BytesIO()
        services = service.app.state.services
        object.__setattr__(services, "access_log", AccessLog(stream=stream))
        for body in bodies(reference[0][0].tolist()):
            service.request("POST", path, headers=GOOD, content=body)
        services.access_log.flush()
        logged = [json.loads(line) for line in stream.getvalue().splitlines()]
        lines.append([{**line, "ms": 0, "timestamp": ""} for line in logged])
    assert lines[0] == lines[1]
    assert lines[0][0]["path"] != "(other)"


def test_what_an_endpoint_needs_beside_the_request_is_left_to_the_framework() -> None:
    router = APIRouter(route_class=ScopedRoute)

    @router.post("/plain", openapi_extra=needs("predict"))
    async def plain(request: Request) -> Response:
        return Response("plain")

    @router.post("/models/{name}", openapi_extra=needs("predict"))
    async def named(request: Request, name: str) -> Response:
        return Response(name)

    @router.post("/models/{name}/{version}", openapi_extra=needs("predict"))
    async def versioned(request: Request, name: str, version: str) -> Response:
        return Response(version)

    @router.post("/query", openapi_extra=needs("predict"))
    async def query(request: Request, limit: int = 3) -> Response:
        return Response(str(limit))

    @router.post("/thread", openapi_extra=needs("predict"))
    def thread(request: Request) -> Response:
        return Response("thread")

    @router.post("/other", openapi_extra=needs("read"))
    async def other(request: Request) -> Response:
        return Response("other")

    direct = DirectRoutes(router.routes, {"name": "wdbc"})
    assert direct.addresses == {("POST", "/plain"), ("POST", "/models/wdbc")}


def test_every_prediction_is_called_directly(service: Service) -> None:
    direct = DirectRoutes(service.app.routes, {"name": "wdbc"})
    paths = {path.partition("?")[0] for path in PATHS}
    assert direct.addresses == {("POST", path) for path in paths}
