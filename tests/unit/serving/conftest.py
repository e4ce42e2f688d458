"""A service in this process, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import httpx
import pytest
from fastapi import FastAPI

from bc_pipeline.access.keys import import_key
from bc_pipeline.serving.app import create_app
from bc_pipeline.settings import Settings

KEY = "test-key-of-the-unit-tests"
T = TypeVar("T")


class Service:
    """A started application, and a client that carries the key."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.model = app.state.services.model
        self._loop = asyncio.new_event_loop()
        self._lifespan = app.router.lifespan_context(app)
        self._loop.run_until_complete(self._lifespan.__aenter__())
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://service"
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

    def wait(self, seconds: float) -> None:
        """Let what the service does by itself go on for a while."""
        self._loop.run_until_complete(asyncio.sleep(seconds))

    def stop(self) -> None:
        self._loop.run_until_complete(self._client.aclose())
        self._loop.run_until_complete(self._lifespan.__aexit__(None, None, None))
        self._loop.close()


@pytest.fixture
def api_key(settings: Settings) -> str:
    import_key(settings.service_keys, "tests", ["admin"], KEY)
    return KEY


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
