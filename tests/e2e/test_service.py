"""The real service in a process of its own, following a real volume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import pytest

from bc_pipeline.artifacts.versions import MODEL
from bc_pipeline.settings import Settings

KEY = "key-of-the-end-to-end-tests"
SWAPS = 20
CLIENTS = 4
PICKED_UP_SECONDS = 2.0


@dataclass
class Service:
    process: subprocess.Popen[str]
    port: int

    def ask(
        self, method: str, path: str, content: Any = None, key: str | None = KEY
    ) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            return exchange(connection, method, path, content, key)
        finally:
            connection.close()

    def version(self) -> str | None:
        status, health = self.ask("GET", "/health")
        assert status in (200, 503)
        return health.get("model_version")

    def wait_for(self, what: Callable[[], bool], seconds: float = PICKED_UP_SECONDS) -> float:
        """Seconds until something holds; fails when it takes too long."""
        started = time.monotonic()
        while not what():
            assert time.monotonic() - started < seconds
            time.sleep(0.02)
        return time.monotonic() - started


def exchange(
    connection: HTTPConnection, method: str, path: str, content: Any, key: str | None
) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
    body = None if content is None else json.dumps(content)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@pytest.fixture
def reload_seconds(settings: Settings) -> float:
    """How often the service looks; a test may ask for another pace."""
    return settings.reload_seconds


@pytest.fixture
def service(settings: Settings, reload_seconds: float, tmp_path: Any) -> Iterator[Service]:
    """A service that follows the registry of the test's volume."""
    settings.api_key.parent.mkdir(parents=True, exist_ok=True)
    settings.api_key.write_text(KEY)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bc_pipeline.serving", "--port", "0", "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"BC_RELOAD_SECONDS": str(reload_seconds)},
        )
    with process:
        assert process.stdout is not None
        yield Service(process, json.loads(process.stdout.readline())["port"])
        process.terminate()


def test_from_no_champion_to_the_first_and_past_a_corrupt_one(
    service: Service, releases: Any, fitted: Any, reference: Any
) -> None:
    record = {"features": reference[0][0].tolist()}
    assert service.ask("GET", "/health")[0] == 503
    assert service.ask("POST", "/predict", record)[0] == 503
    assert service.ask("GET", "/")[0] == 200

    releases.publish("v1", fitted[0])
    releases.promote("v1")
    service.wait_for(lambda: service.version() == "v1")
    status, answer = service.ask("POST", "/predict", record)
    assert (status, answer["model_version"]) == (200, "v1")
    assert abs(answer["probabilities"]["malignant"] - fitted[0].probability[0]) <= 1e-12

    for key in (None, "", "wrong", KEY + "x"):
        assert service.ask("POST", "/predict", record, key)[0] == 401

    releases.publish("v2", fitted[1])
    path = releases.store.version("v2") / MODEL
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\0")
    releases.promote("v2")
    service.wait_for(lambda: service.ask("GET", "/health")[1]["refused"]["count"] == 1)
    health = service.ask("GET", "/health")[1]
    assert (health["model_version"], health["generation"]) == ("v1", 1)
    assert health["refused"]["last"]["version"] == "v2"
    assert service.ask("POST", "/predict", record)[1]["model_version"] == "v1"

    path.write_bytes(whole)
    service.wait_for(lambda: service.version() == "v2")
    health = service.ask("GET", "/health")[1]
    assert (health["refused"]["count"], health["refused"]["last"]) == (1, None)
    answer = service.ask("POST", "/predict", record)[1]
    assert abs(answer["probabilities"]["malignant"] - fitted[1].probability[0]) <= 1e-12


@dataclass
class Load:
    """Clients that ask without a pause, each over one connection."""

    port: int
    rows: list[list[float]]
    answers: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def client(self, first: int) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            row = first
            while not self.stopped.is_set():
                row = (row + CLIENTS) % len(self.rows)
                content = {"features": self.rows[row]}
                status, answer = exchange(connection, "POST", "/predict", content, KEY)
                self.answers.append((row, status, answer))
        except Exception as error:
            self.failures.append(repr(error))
        finally:
            connection.close()


@pytest.mark.parametrize("reload_seconds", [0.1])
def test_twenty_swaps_under_load_lose_no_request(
    service: Service, releases: Any, fitted: Any, reference: Any
) -> None:
    names = [f"v{index}" for index in range(len(fitted))]
    for name, model in zip(names, fitted, strict=True):
        releases.publish(name, model)
    releases.promote(names[0])
    service.wait_for(lambda: service.version() == names[0])
    load = Load(service.port, reference[0].tolist())
    threads = [threading.Thread(target=load.client, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        waited = []
        for swap in range(1, SWAPS + 1):
            name = names[swap % len(names)]
            releases.promote(name)
            waited.append(service.wait_for(lambda name=name: service.version() == name))
    finally:
        load.stopped.set()
        for thread in threads:
            thread.join(20)
    assert load.failures == []
    assert len(load.answers) > SWAPS * CLIENTS
    assert {status for _, status, _ in load.answers} == {200}
    assert {answer["model_version"] for _, _, answer in load.answers} == set(names)
    expected = {name: model.probability for name, model in zip(names, fitted, strict=True)}
    for row, _, answer in load.answers:
        given = answer["probabilities"]["malignant"]
        assert abs(given - expected[answer["model_version"]][row]) <= 1e-12
    health = service.ask("GET", "/health")[1]
    assert (health["generation"], health["refused"]["count"]) == (SWAPS + 1, 0)
    assert max(waited) < PICKED_UP_SECONDS


def test_a_request_under_way_is_answered_before_the_end(
    service: Service, releases: Any, fitted: Any, reference: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    service.wait_for(lambda: service.version() == "v1")
    body = json.dumps({"features": reference[0][0].tolist()})
    connection = HTTPConnection("127.0.0.1", service.port, timeout=10)
    try:
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("X-API-Key", KEY)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:40].encode())
        # The service waits for the rest of the body when the signal comes.
        time.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert service.process.poll() is None
        connection.send(body[40:].encode())
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["model_version"]) == (200, "v1")
    finally:
        connection.close()
    assert service.process.wait(10) == 0
