"""What the embedded stack costs: time of `up`, peak memory, and Airflow's share of a run.

Starts a stack of its own on free ports and a temporary volume. Both sides of the comparison
retrain on the same dataset with its cross-validation already stored, one after the other.

Run it with ``python bench/airflow_overhead.py``; it takes about three minutes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from bc_pipeline.airflow_api import AirflowApi
from bc_pipeline.settings import Settings

ROUNDS = 3
SAMPLE_SECONDS = 1.0
PORTS = ("airflow_port", "mlflow_port", "service_port")


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    numbers = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return numbers


class PeakMemory:
    """Largest sum of proportional set sizes over the processes of one volume."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.bytes = 0
        self.processes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            sizes = []
            for process in psutil.process_iter():
                try:
                    if process.environ().get("BC_HOME") == self.home:
                        sizes.append(process.memory_full_info().pss)
                except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                    continue
            if sum(sizes) > self.bytes:
                self.bytes, self.processes = sum(sizes), len(sizes)


def command(environment: dict[str, str], *words: str) -> tuple[float, dict]:
    program = str(Path(sys.executable).with_name("bc-pipeline"))
    began = time.perf_counter()
    done = subprocess.run(
        [program, *words, "--json"], env=environment, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - began, json.loads(done.stdout)


def retrain(airflow: AirflowApi) -> tuple[float, float, int]:
    """Seconds of a run from trigger to end, of its tasks alone, and how many tasks ran."""
    began = time.perf_counter()
    run_id = airflow.trigger("wdbc_retrain", {"logical_date": None, "conf": {"train_anyway": True}})
    *_, (state, tasks) = airflow.follow("wdbc_retrain", run_id, 600)
    seconds = time.perf_counter() - began
    assert state == "success", state
    worked = [task["duration"] for task in tasks if task["state"] == "success"]
    return seconds, sum(worked), len(worked)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        environment = os.environ | {"BC_HOME": folder}
        environment |= {f"BC_{name.upper()}": str(port) for name, port in ports.items()}
        try:
            with PeakMemory(folder) as peak:
                up, _ = command(environment, "up")
            with AirflowApi.log_in(Settings(home=Path(folder), **ports)) as airflow:
                rounds = [retrain(airflow) for _ in range(ROUNDS)]
            lines = [command(environment, "run", "--anyway")[0] for _ in range(ROUNDS)]
        finally:
            command(environment, "down")
    wall, worked, count = min(rounds)
    line = min(lines)
    print(f"bc-pipeline up, empty volume         {up:8.1f} s")
    print(
        f"peak memory while it runs            {peak.bytes / 2**20:8.0f} MiB (PSS), "
        f"{peak.processes} processes"
    )
    print(f"retrain in Airflow, {count} tasks          {wall:8.1f} s, best of {ROUNDS}")
    print(
        f"  of it between tasks                {wall - worked:8.1f} s, "
        f"{(wall - worked) / count:.2f} s a task"
    )
    print(f"bc-pipeline run, one process         {line:8.1f} s, best of {ROUNDS}")
    print(f"ratio                                {wall / line:8.2f}")


if __name__ == "__main__":
    main()
