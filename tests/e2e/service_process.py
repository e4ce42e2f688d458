"""The real service in processes of its own, and clients that keep it busy."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import psutil

from bc_pipeline.auth.api_keys import import_key
from bc_pipeline.settings import Settings
from tests.waiting import PATIENCE

KEY = "key-of-the-end-to-end-tests"
_WORKER = "bc_pipeline.server.worker"


@dataclass
class Service:
    """A launcher, its workers and its drainer."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    tls: ssl.SSLContext | None = None

    def connect(self, timeout: float = PATIENCE) -> HTTPConnection:
        if self.tls is not None:
            return HTTPSConnection("localhost", self.port, timeout=timeout, context=self.tls)
        return HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(
        self, method: str, path: str, content: Any = None, key: str | None = KEY
    ) -> tuple[int, dict[str, Any]]:
        connection = self.connect()
        try:
            status, _, answer = exchange(connection, method, path, content, key)
            return status, answer
        finally:
            connection.close()

    def version(self) -> str | None:
        status, health = self.ask("GET", "/health")
        assert status in (200, 503)
        return health.get("model_version")

    def processes(self) -> list[psutil.Process]:
        """All that run: the launcher first."""
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid).children()
        return [child for child in found if _WORKER in _command(child)]

    def events(self) -> list[dict[str, Any]]:
        """What the processes logged so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def exchange(
    connection: HTTPConnection, method: str, path: str, content: Any, key: str | None
) -> tuple[int, dict[str, str], dict[str, Any]]:
    headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
    body = None if content is None else json.dumps(content)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    received = {name.lower(): value for name, value in response.getheaders()}
    return response.status, received, json.loads(response.read())


@contextmanager
def running_service(
    settings: Settings,
    folder: Path,
    *,
    workers: int = 1,
    tls: ssl.SSLContext | None = None,
    python: str | Path = sys.executable,
    stderr: int | None = None,
    **environment: str,
) -> Iterator[Service]:
    """A service that follows the registry of the volume; it ends with the block.

    What it logs goes into a file, where `stderr` names no other place.
    """
    import_key(settings.service_keys, "e2e", ["admin"], KEY)
    command = [str(python), "-m", "bc_pipeline.server", "--port", "0", "--until-eof"]
    path = folder / "service.log"
    with path.open("w") as log:
        process = subprocess.Popen(
            [*command, "--workers", str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log if stderr is None else stderr,
            text=True,
            env=os.environ | {"BC_HOME": str(settings.home)} | environment,
        )
    with process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, path.read_text()
            yield Service(process, json.loads(line)["port"], path, tls)
        finally:
            process.terminate()


@dataclass(frozen=True)
class Answer:
    """What a client got for one row."""

    row: int
    status: int
    headers: dict[str, str]
    content: dict[str, Any]
    seconds: float


@dataclass
class Load:
    """Clients that ask for predictions without a pause, each over one connection.

    A client opens a new connection where the service announced the end of its last one, or,
    with `reconnect`, where it broke; what was asked on a broken one counts as failed.
    """

    service: Service
    rows: list[list[float]]
    clients: int = 4
    reconnect: bool = False
    pause: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        for number in range(self.clients):
            thread = threading.Thread(target=self._client, args=(number,))
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def join(self, seconds: float) -> None:
        """Wait until the clients have nobody to ask any more."""
        for thread in self._threads:
            thread.join(seconds)

    def _client(self, first: int) -> None:
        row = first
        connection = self.service.connect()
        try:
            while not self._stop.wait(self.pause):
                row = (row + self.clients) % len(self.rows)
                content = {"features": self.rows[row]}
                if connection.sock is None:
                    try:
                        connection.connect()
                    except OSError:
                        # Nobody listens: nothing was asked, so nothing is lost.
                        if self.reconnect:
                            continue
                        return
                started = time.perf_counter()
                try:
                    answer = exchange(connection, "POST", "/predict", content, KEY)
                except Exception as error:
                    self.failures.append(repr(error))
                    connection.close()
                    if not self.reconnect:
                        return
                    continue
                self.answers.append(Answer(row, *answer, time.perf_counter() - started))
        finally:
            connection.close()


def quantile(answers: list[Answer], share: float) -> float:
    """Seconds within which that share of the answers came."""
    ordered = sorted(answer.seconds for answer in answers)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
