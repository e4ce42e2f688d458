"""A real service whose worker is measured: processor time of a request, and memory at its peak."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.service_process import KEY, Service, running_service
from tests.waiting import PATIENCE, wait_until

MEBI = 1024 * 1024
# Bounds for one request with any content: CPU time in loops of `tests.cpu_time`, and memory.
LOOPS = 40
MEMORY = 100 * MEBI
MEMBERS = {"type", "title", "status", "detail", "code"}


@dataclass(frozen=True)
class Reply:
    """A response, and the CPU seconds that it took the worker."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def problem(self) -> dict[str, Any]:
        """The body, which must be a problem."""
        assert self.headers["content-type"] == "application/problem+json", self
        found: dict[str, Any] = json.loads(self.body)
        assert set(found) >= MEMBERS, self
        assert found["status"] == self.status, self
        return found


class Measured:
    """A service with one worker, whose memory is compared with what it was when warm."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.port = service.port
        (self.worker,) = service.workers()
        self._warm = 0

    def wait_for_database(self) -> None:
        """Until the drainer has made it, outcomes have nowhere to go."""
        report = b"prediction_id,diagnosis\nnobody,benign\n"
        kind = {"Content-Type": "text/csv"}
        wait_until(lambda: self.ask("POST", "/v1/outcomes", report, kind).status == 200)

    def warm(self) -> None:
        """Count memory from now on."""
        self._warm = self.worker.memory_info().rss
        # The kernel's mark of the peak starts anew.
        Path(f"/proc/{self.worker.pid}/clear_refs").write_text("5")

    @property
    def grown(self) -> int:
        """Bytes by which the peak was above the warm service's memory."""
        for line in Path(f"/proc/{self.worker.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 - self._warm
        raise AssertionError("the kernel tells no peak")

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        before = self._seconds()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {"X-API-Key": KEY} | (headers or {}))
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, received, content, self._seconds() - before)

    def _seconds(self) -> float:
        times = self.worker.cpu_times()
        return float(times.user + times.system)

    def alive(self) -> bool:
        """Whether it is still the same worker that answers."""
        return bool(
            self.worker.is_running()
            and self.worker.status() != psutil.STATUS_ZOMBIE
            and self.service.workers() == [self.worker]
        )


@contextmanager
def measured_service(
    folder: Path, releases_in: Callable[[Path], Any], model: Any, **environment: str
) -> Iterator[Measured]:
    """A service with one model, and without Airflow, whose many refusals nobody counts."""
    releases = releases_in(folder)
    releases.publish("v1", model)
    releases.promote("v1")
    password = folder / "airflow_password"
    password.write_text("x")
    settings = {
        "BC_AIRFLOW_PORT": "1",
        "BC_AIRFLOW_PASSWORD_FILE": str(password),
        "BC_RATE_LIMIT_FAILURES": "1000000/hour",
    }
    with running_service(releases.settings, folder, **settings, **environment) as service:
        yield Measured(service)
