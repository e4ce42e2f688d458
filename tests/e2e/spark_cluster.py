"""A real Spark standalone cluster: a master and its workers, as processes of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.running import free_ports

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("BC_SPARK_PYTHON") or ROOT / ".venv" / "spark" / "bin" / "python")
_UP_SECONDS = 600.0


def why_not() -> str:
    """The program that a cluster needs and this machine lacks; empty where none is missing."""
    if shutil.which("java") is None:
        return "Java 17 or later is missing: 'apt-get install openjdk-17-jre-headless' brings it"
    if not PYTHON.is_file():
        return "Spark's environment is missing: 'make .venv/spark/ready' brings it"
    return ""


class SparkCluster:
    """Master and workers on the loopback interface.

    Attributes
    ----------
    master : str
        URL for drivers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._page, port = free_ports(2)
        self.master = f"spark://127.0.0.1:{port}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._all: list[subprocess.Popen[bytes]] = []
        self._start(
            "master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(self._page)
        )

    def add_worker(self) -> None:
        """Start one more worker of one core."""
        name = f"worker{len(self.workers)}"
        (page,) = free_ports(1)
        self.workers.append(
            self._start(
                name,
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--webui-port",
                str(page),
                "--cores",
                "1",
                "--memory",
                "1g",
                "--work-dir",
                str(self._folder / name),
                self.master,
            )
        )

    def wait(self, workers: int) -> None:
        """Wait until that many workers are alive.

        Until the master has added the handler of `/json/`, its server answers with an HTML page.
        """
        limit = time.monotonic() + _UP_SECONDS
        while time.monotonic() < limit:
            try:
                if self.state()["aliveworkers"] >= workers:
                    return
            except (OSError, json.JSONDecodeError):
                pass
            time.sleep(0.2)
        raise AssertionError(f"no {workers} workers: see {self._folder}")

    def state(self) -> dict[str, Any]:
        """What the master's page says, as JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._page}/json/", timeout=5) as answer:
            listed: dict[str, Any] = json.load(answer)
        return listed

    def executor_of(self, worker: subprocess.Popen[bytes]) -> int | None:
        """Process of the executor that a worker runs; None where it runs none."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = stat.read_text().rpartition(")")[2].split()
                command = (stat.parent / "cmdline").read_bytes()
            except OSError:
                continue
            if int(words[1]) == worker.pid and b"CoarseGrainedExecutorBackend" in command:
                return int(stat.parent.name)
        return None

    def stop(self) -> None:
        for process in reversed(self._all):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._all:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        home = next(PYTHON.parents[1].glob("lib/python*/site-packages/pyspark"))
        kind = re.sub(r"\d", "", name)
        program = f"org.apache.spark.deploy.{kind}.{kind.capitalize()}"
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [home / "bin" / "spark-class", program, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    name: value
                    for name, value in os.environ.items()
                    if not name.startswith(("BC_", "PYTHON", "SPARK", "VIRTUAL"))
                }
                | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(self._folder / "local")},
            )
        self._all.append(process)
        return process


@contextmanager
def spark_cluster(folder: Path, workers: int = 2) -> Iterator[SparkCluster]:
    """A cluster that runs, and is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = SparkCluster(folder)
    try:
        for _ in range(workers):
            cluster.add_worker()
        cluster.wait(workers)
        yield cluster
    finally:
        cluster.stop()
