"""What befalls a service that runs for long: logs that fill up, prints, too many connections."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.auth.api_keys import import_key, revoke_key
from bc_pipeline.settings import Settings
from tests.e2e.service_process import Service, running_service
from tests.waiting import PATIENCE, wait_until

WORKERS = 2
KEYS = {name: f"key-of-{name}-0123456789" for name in ("first", "second")}


@pytest.fixture
def published(releases: Any, fitted: Any) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")


@contextmanager
def full_disk() -> Iterator[int]:
    with Path("/dev/full").open("w") as full:
        yield full.fileno()


@contextmanager
def nobody_reads() -> Iterator[int]:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@pytest.mark.parametrize("log", [full_disk, nobody_reads])
@pytest.mark.usefixtures("published")
def test_a_log_that_cannot_be_written_changes_nothing(
    settings: Settings, tmp_path: Path, reference: Any, log: Any
) -> None:
    record = {"features": reference[0][0].tolist()}
    for name, key in KEYS.items():
        import_key(settings.service_keys, name, ["predict"], key)
    with (
        log() as stderr,
        running_service(settings, tmp_path, workers=WORKERS, stderr=stderr) as service,
    ):
        for name, key in KEYS.items():
            assert service.ask("POST", "/predict", record, key)[0] == 200
            revoke_key(settings.service_keys, name)
            wait_until(partial(refused, service, record, key))
        before = service.workers()
        for process in service.processes()[1:]:
            process.kill()
        wait_until(lambda: replaced(service, before))
        wait_until(lambda: len(service.processes()) == 1 + WORKERS + 1)
        assert service.ask("POST", "/predict", record)[0] == 200
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0


def refused(service: Service, record: Any, key: str) -> bool:
    """Whether every worker refuses a key; new connections go to either."""
    return all(service.ask("POST", "/predict", record, key)[0] == 401 for _ in range(8))


def replaced(service: Service, before: list[Any]) -> bool:
    now = service.workers()
    return len(now) == WORKERS and not set(now) & set(before)


@pytest.mark.usefixtures("published")
def test_what_a_worker_prints_is_nothing_it_tells(settings: Settings, tmp_path: Path) -> None:
    with running_service(settings, tmp_path) as service:
        (worker,) = service.workers()
        with Path(f"/proc/{worker.pid}/fd/1").open("wb", buffering=0) as output:
            for line in (b"a library says hello\n", b"[]\n", b"{}\n", b'{"event": 1}\n', b"\xff\n"):
                output.write(line)
        assert service.ask("GET", "/livez")[0] == 200
        worker.kill()
        # Only a launcher that is there does that.
        wait_until(lambda: service.workers() and service.workers() != [worker])
        service.process.terminate()
        assert service.process.wait(PATIENCE) == 0


@pytest.mark.usefixtures("published")
def test_as_many_files_may_be_open_as_the_system_allows(settings: Settings, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with running_service(settings, tmp_path) as service:
            (worker,) = service.workers()
            assert worker.rlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("published")
def test_half_a_request_does_not_hold_the_end_up(settings: Settings, tmp_path: Path) -> None:
    with (
        running_service(settings, tmp_path) as service,
        socket.create_connection(("127.0.0.1", service.port)) as client,
    ):
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: s\r\nX-API")
        assert service.ask("GET", "/livez")[0] == 200
        service.process.terminate()
        assert service.process.wait(PATIENCE) == 0
