"""The services that are compared, each in processes of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from serving.volume import Volume

_FOLDER = Path(__file__).parent
_PATIENCE = 60.0
_PAUSE = 0.002


class NotReady(Exception):
    """A service did not start."""


@dataclass
class Peer:
    """A running service.

    Attributes
    ----------
    process : Popen
        The one that was started; it answers, or its children do.
    listening, ready : float
        Seconds from its start until it said that it listens, and until it was ready.
    """

    process: subprocess.Popen[bytes]
    port: int
    listening: float
    ready: float

    def find(self, role: str) -> int:
        """Process id of the child whose command line ends a word so; it may yet start."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            for child in psutil.Process(self.process.pid).children():
                if any(word.endswith(role) for word in child.cmdline()):
                    return child.pid
            time.sleep(_PAUSE)
        raise NotReady(f"there is no {role}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_ours(volume: Volume, log: Path, *, workers: int = 1) -> Peer:
    """The real service: a launcher, its workers and the drainer."""
    command = [sys.executable, "-m", "bc_pipeline.server", "--port", "0"]
    began = time.perf_counter()
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [*command, "--workers", str(workers)],
            env=volume.environment,
            stdout=subprocess.PIPE,
            stderr=stream,
        )
    assert process.stdout is not None
    reported = process.stdout.readline()
    listening = time.perf_counter() - began
    if not reported:
        raise NotReady(log.read_text())
    port = json.loads(reported)["port"]
    while not _ready(port):
        time.sleep(_PAUSE)
    return Peer(process, port, listening, time.perf_counter() - began)


def start_naive(volume: Volume, log: Path) -> Peer:
    names = {"MODEL": str(volume.estimator), "VERSION": volume.version}
    return _start("naive.py", names, log)


def start_bare(answer: str, log: Path) -> Peer:
    return _start("bare.py", {"ANSWER": answer}, log)


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time that processes took so far, system calls included.

    The process's own clock has the resolution of a nanosecond; what `psutil.cpu_times`
    reads is the same time in hundredths of a second.
    """
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def memory_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def _start(script: str, names: Mapping[str, str], log: Path) -> Peer:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, str(_FOLDER / script)],
            env={**os.environ, **names, "PORT": str(port)},
            stdout=stream,
            stderr=stream,
        )
    while not _open(port):
        if process.poll() is not None or time.perf_counter() - began > _PATIENCE:
            raise NotReady(log.read_text())
        time.sleep(_PAUSE)
    ready = time.perf_counter() - began
    return Peer(process, port, ready, ready)


def _open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    finally:
        connection.close()
