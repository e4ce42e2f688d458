"""The launcher, its workers and the drainer: shutdown, and recovery from killed processes."""

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

from bc_pipeline.prediction_log.predictions import find_prediction
from bc_pipeline.settings import Settings
from tests.e2e.service_process import KEY, Load, Service, exchange, running_service
from tests.waiting import PATIENCE, wait_until

WORKERS = 2


@pytest.fixture
def service(settings: Settings, tmp_path: Path, releases: Any, fitted: Any) -> Iterator[Service]:
    """Two workers that serve a model."""
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    with running_service(settings, tmp_path, workers=WORKERS) as service:
        yield service


def connect_to_all_workers(service: Service) -> list[HTTPConnection]:
    """Open connections until every worker has some."""
    connections: list[HTTPConnection] = []

    def has_connection(worker: psutil.Process) -> bool:
        return any(
            connection.status == psutil.CONN_ESTABLISHED for connection in worker.net_connections()
        )

    def all_have_connections() -> bool:
        burst = [service.connect() for _ in range(8)]
        for connection in burst:
            connection.connect()
        connections.extend(burst)
        time.sleep(0.1)
        return all(has_connection(worker) for worker in service.workers())

    wait_until(all_have_connections)
    return connections


def test_both_workers_answer_and_one_drainer_runs(service: Service, reference: Any) -> None:
    connections = connect_to_all_workers(service)
    content = {"features": reference[0][0].tolist()}
    for connection in connections:
        assert exchange(connection, "POST", "/predict", content, KEY)[0] == 200
        connection.close()
    wait_until(lambda: len(service.processes()) == 1 + WORKERS + 1)


def test_shutdown_drops_no_request(service: Service, reference: Any) -> None:
    with Load(service, reference[0].tolist(), clients=6) as load:
        wait_until(lambda: len(load.answers) > 100)
        service.process.send_signal(signal.SIGTERM)
        load.join(15)
    assert service.process.wait(PATIENCE) == 0
    assert load.failures == []
    assert {answer.status for answer in load.answers} == {200}


def test_shutdown_waits_for_slow_requests_on_every_worker(service: Service, reference: Any) -> None:
    body = json.dumps({"features": reference[0][0].tolist()})
    connections = connect_to_all_workers(service)
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
    assert service.process.wait(PATIENCE) == 0


def test_a_killed_worker_is_restarted_while_the_other_answers(
    service: Service, reference: Any
) -> None:
    with Load(service, reference[0].tolist(), clients=6, reconnect=True) as load:
        wait_until(lambda: len(load.answers) > 100)
        victim, other = service.workers()
        victim.kill()
        answered = len(load.answers)
        wait_until(lambda: len(load.answers) > answered + 100)
        assert other.is_running()
        wait_until(lambda: len(service.workers()) == WORKERS)
        listening = [worker.pid for worker in service.workers()]
        assert victim.pid not in listening
        wait_until(
            lambda: (
                sum(event["event"] == "Application startup complete." for event in service.events())
                == WORKERS + 1
            )
        )
    # Only requests on the killed worker's connections are lost.
    assert len(load.failures) <= load.clients
    assert {answer.status for answer in load.answers} == {200}
    (ended,) = [event for event in service.events() if event["event"] == "process_ended"]
    assert (ended["process"], ended["code"]) == (victim.pid, -signal.SIGKILL)


def test_requests_in_flight_on_a_killed_worker_are_lost_and_no_others(
    service: Service, reference: Any
) -> None:
    body = json.dumps({"features": reference[0][0].tolist()}).encode()
    connections = connect_to_all_workers(service)
    victim, _ = service.workers()
    ports = {connection.raddr.port for connection in victim.net_connections() if connection.raddr}
    for connection in connections:
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("X-API-Key", KEY)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:40])
    time.sleep(0.3)
    victim.kill()
    victim.wait(PATIENCE)
    statuses: dict[bool, set[int]] = {True: set(), False: set()}
    for connection in connections:
        is_victims = connection.sock.getsockname()[1] in ports
        try:
            connection.send(body[40:])
            statuses[is_victims].add(connection.getresponse().status)
        except ConnectionError:
            # Closed, or reset.
            statuses[is_victims].add(0)
        connection.close()
    assert statuses == {True: {0}, False: {200}}
    wait_until(lambda: len(service.workers()) == WORKERS)
    assert service.ask("POST", "/predict", json.loads(body))[0] == 200


def test_connections_wait_for_the_successor_of_the_only_worker(
    settings: Settings, tmp_path: Path, releases: Any, fitted: Any, reference: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    with running_service(settings, tmp_path) as service:
        (worker,) = service.workers()
        worker.kill()
        worker.wait(PATIENCE)
        # It was asked while nobody accepted connections.
        assert service.ask("POST", "/predict", {"features": reference[0][0].tolist()})[0] == 200
        assert worker not in service.workers()


def test_a_killed_drainer_is_restarted(service: Service) -> None:
    def drainer() -> list[psutil.Process]:
        workers = service.workers()
        return [process for process in service.processes()[1:] if process not in workers]

    wait_until(drainer)
    (first,) = drainer()
    first.kill()
    wait_until(lambda: drainer() and drainer() != [first])
    assert service.ask("GET", "/livez")[0] == 200


def test_shutdown_drains_the_log_while_the_drainer_waits_for_its_restart(
    service: Service, reference: Any, settings: Settings
) -> None:
    def drainers() -> list[psutil.Process]:
        workers = service.workers()
        return [process for process in service.processes()[1:] if process not in workers]

    record = {"features": reference[0][0].tolist()}
    # Killed repeatedly, it is restarted after longer and longer pauses.
    for _ in range(5):
        wait_until(drainers)
        drainers()[0].kill()
        wait_until(lambda: not drainers())
    identifier = service.ask("POST", "/predict", record)[1]["prediction_id"]
    service.process.terminate()
    assert service.process.wait(PATIENCE) == 0
    assert find_prediction(settings, identifier).drained


def test_no_process_outlives_a_killed_launcher(service: Service, reference: Any) -> None:
    # An idle connection and busy ones.
    idle = service.connect()
    idle.connect()
    wait_until(lambda: len(service.processes()) == 1 + WORKERS + 1)
    processes = service.processes()
    with Load(service, reference[0].tolist()) as load:
        wait_until(lambda: len(load.answers) > 50)
        service.process.kill()
        service.process.wait()
        _, alive = psutil.wait_procs(processes[1:], timeout=PATIENCE)
    idle.close()
    assert alive == []
    assert load.failures == []
