"""A service in this process, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from bc_pipeline.artifacts.importance import FeatureImportance, Importance
from bc_pipeline.serving import prediction, request_context
from bc_pipeline.serving.app import Application, create_app
from bc_pipeline.serving.fast_path import BODY_LIMIT, PREDICT_PATHS
from bc_pipeline.settings import Settings
from tests.redis_server import redis_server as redis_server
from tests.unit.conftest import KEY
from tests.waiting import PATIENCE

T = TypeVar("T")
FIXED_ID = "01900000-0000-7000-8000-000000000000"
RANKING = Importance(
    rows=114,
    shuffles=2,
    seed=0,
    brier=0.02,
    features=(FeatureImportance("worst_area", 0.05, 0.01),),
)


class ServedApplication:
    """An application as the server runs it: what the fast path answers does not reach it.

    Attributes
    ----------
    fast_answers : int
        How many requests the fast path answered.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self.fast_answers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_prediction = scope["path"] in PREDICT_PATHS and scope["method"] == "POST"
        if self._app.fast_path is None or not is_prediction or scope["query_string"]:
            await self._app(scope, receive, send)
            return
        messages, body = [], b""
        while not messages or messages[-1].get("more_body"):
            messages.append(await receive())
            body += messages[-1].get("body", b"")
            if len(body) > BODY_LIMIT:
                break
        answer = None
        if not messages[-1].get("more_body"):
            answer = self._app.fast_path.answer(
                scope["path"], scope["headers"], scope["client"][0], body
            )
        if answer is None:
            left = iter(messages)

            async def again() -> Message:
                return next(left, None) or await receive()

            await self._app(scope, again, send)
            return
        self.fast_answers += 1
        head, _, content = answer.partition(b"\r\n\r\n")
        headers = [line.split(b": ", 1) for line in head.split(b"\r\n")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class Service:
    """A started application, and a client that carries the key."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.served = ServedApplication(app)
        self.model = app.state.services.model_watcher
        self._loop = asyncio.new_event_loop()
        self._lifespan = app.router.lifespan_context(app)
        self._loop.run_until_complete(self._lifespan.__aenter__())
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.served), base_url="http://service"
        )

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self.run(self.ask(method, path, **arguments))

    async def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """One request among others, within `run`."""
        return await self._client.request(method, path, **arguments)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def predict(self, json: Any = None, **arguments: Any) -> httpx.Response:
        """POST a record, or ``content=`` raw bytes, with the key and as JSON."""
        headers = {"Content-Type": "application/json", "X-API-Key": KEY}
        headers |= arguments.pop("headers", {})
        if json is not None:
            arguments["json"] = json
        return self.request("POST", "/predict", headers=headers, **arguments)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Let the service's background tasks run until a condition holds."""

        async def poll() -> None:
            while not condition():
                await asyncio.sleep(0.01)

        self.run(asyncio.wait_for(poll(), PATIENCE))

    def stop(self) -> None:
        self._loop.run_until_complete(self._client.aclose())
        self._loop.run_until_complete(self._lifespan.__aexit__(None, None, None))
        self._loop.close()


@pytest.fixture
def same_ids(
    settings: Settings, api_key: str, releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings of services with the version ``v1`` live, which all give the same ids."""
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    monkeypatch.setattr(prediction, "new_ids", lambda count: [FIXED_ID] * count)
    monkeypatch.setattr(request_context, "new_id", lambda: "01900000-0000-7000-8000-000000000001")
    return settings


@pytest.fixture
def start(settings: Settings, api_key: str) -> Iterator[Callable[..., Service]]:
    """Start the service with changed settings; it stops with the test."""
    started: list[Service] = []

    def start(**changes: Any) -> Service:
        started.append(Service(create_app(settings.model_copy(update=changes))))
        return started[-1]

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def service(releases: Any, fitted: Any, start: Callable[..., Service]) -> Service:
    """The service with the version ``v1`` live."""
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    return start()
