"""Workers, the drainer and the launcher: how they end, and what survives the end of one."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from bc_pipeline.records.predictions import find_prediction
from bc_pipeline.settings import Settings
from tests.e2e.service_process import KEY, Load, Service, exchange, running_service

WORKERS = 2
GONE_SECONDS = 5


@pytest.fixture
def service(settings: Settings, tmp_path: Path, releases: Any, fitted: Any) -> Iterator[Service]:
    """Two workers that serve a model."""
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    with running_service(settings, tmp_path, workers=WORKERS) as service:
        yield service


def spread(service: Service) -> list[HTTPConnection]:
    """Open connections until every worker has some."""
    connections: list[HTTPConnection] = []

    def has_some(worker: psutil.Process) -> bool:
        return any(found.status == psutil.CONN_ESTABLISHED for found in worker.net_connections())

    def all_have_some() -> bool:
        burst = [service.connect() for _ in range(8)]
        for connection in burst:
            connection.connect()
        connections.extend(burst)
        time.sleep(0.1)
        return all(has_some(worker) for worker in service.workers())

    service.wait_for(all_have_some, 10)
    return connections


def test_both_workers_answer_and_one_drainer_runs(service: Service, reference: Any) -> None:
    connections = spread(service)
    content = {"features": reference[0][0].tolist()}
    for connection in connections:
        assert exchange(connection, "POST", "/predict", content, KEY)[0] == 200
        connection.close()
    service.wait_for(lambda: len(service.processes()) == 1 + WORKERS + 1)


def test_the_end_drops_nothing_that_was_asked(service: Service, reference: Any) -> None:
    with Load(service, reference[0].tolist(), clients=6) as load:
        service.wait_for(lambda: len(load.answers) > 100, 20)
        service.process.send_signal(signal.SIGTERM)
        load.join(15)
    assert service.process.wait(20) == 0
    assert load.failures == []
    assert {answer.status for answer in load.answers} == {200}


def test_slow_requests_on_every_worker_are_answered_before_the_end(
    service: Service, reference: Any
) -> None:
    body = json.dumps({"features": reference[0][0].tolist()})
    connections = spread(service)
    try:
        for connection in connections:
            connection.putrequest("POST", "/predict")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("X-API-Key", KEY)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[:40].encode())
        # The workers wait for the rest of the bodies when the signal comes.
        time.sleep(0.3)
        for process in (service.process, *service.workers()):
            # A terminal's Ctrl-C reaches all of them.
            process.send_signal(signal.SIGINT)
        time.sleep(0.7)
        assert service.process.poll() is None
        assert len(service.workers()) == WORKERS
        for connection in connections:
            connection.send(body[40:].encode())
        for connection in connections:
            response = connection.getresponse()
            assert response.status == 200
            assert response.getheader("connection") == "close"
            assert json.loads(response.read())["model_version"] == "v1"
    finally:
        for connection in connections:
            connection.close()
    assert service.process.wait(15) == 0


def test_a_killed_worker_is_replaced_while_the_other_answers(
    service: Service, reference: Any
) -> None:
    with Load(service, reference[0].tolist(), clients=6, reconnect=True) as load:
        service.wait_for(lambda: len(load.answers) > 100, 20)
        victim, other = service.workers()
        victim.kill()
        answered = len(load.answers)
        service.wait_for(lambda: len(load.answers) > answered + 100, 10)
        assert other.is_running()
        service.wait_for(lambda: len(service.workers()) == WORKERS, 10)
        listening = [worker.pid for worker in service.workers()]
        assert victim.pid not in listening
        service.wait_for(
            lambda: (
                sum(event["event"] == "Application startup complete." for event in service.events())
                == WORKERS + 1
            ),
            15,
        )
    # Only what stood on the killed worker's connections is lost.
    assert len(load.failures) <= load.clients
    assert {answer.status for answer in load.answers} == {200}
    (ended,) = [event for event in service.events() if event["event"] == "process_ended"]
    assert (ended["process"], ended["code"]) == (victim.pid, -signal.SIGKILL)


def test_a_killed_drainer_comes_back(service: Service) -> None:
    def drainer() -> list[psutil.Process]:
        workers = service.workers()
        return [process for process in service.processes()[1:] if process not in workers]

    service.wait_for(drainer, 10)
    (first,) = drainer()
    first.kill()
    service.wait_for(lambda: drainer() and drainer() != [first], 10)
    assert service.ask("GET", "/livez")[0] == 200


def test_the_end_drains_though_the_drainer_waits_to_be_started_again(
    service: Service, reference: Any, settings: Settings
) -> None:
    def drainers() -> list[psutil.Process]:
        workers = service.workers()
        return [process for process in service.processes()[1:] if process not in workers]

    record = {"features": reference[0][0].tolist()}
    # Killed again and again, it is left alone for longer and longer.
    for _ in range(5):
        service.wait_for(drainers, 10)
        drainers()[0].kill()
        service.wait_for(lambda: not drainers(), 5)
    identifier = service.ask("POST", "/predict", record)[1]["prediction_id"]
    service.process.terminate()
    assert service.process.wait(30) == 0
    assert find_prediction(settings, identifier).drained


def test_nothing_outlives_a_killed_launcher(service: Service, reference: Any) -> None:
    # An idle connection and busy ones.
    idle = service.connect()
    idle.connect()
    service.wait_for(lambda: len(service.processes()) == 1 + WORKERS + 1, 10)
    processes = service.processes()
    with Load(service, reference[0].tolist()) as load:
        service.wait_for(lambda: len(load.answers) > 50, 20)
        service.process.kill()
        service.process.wait()
        _, alive = psutil.wait_procs(processes[1:], timeout=GONE_SECONDS)
    idle.close()
    assert alive == []
    assert load.failures == []
