"""What the supervisor knows of its processes, written to a file that commands read."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Literal

import psutil

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.artifacts.files import read_record, write_record
from bc_pipeline.errors import ArtifactCorrupt, NotStored
from bc_pipeline.settings import Settings

Phase = Literal["waiting", "starting", "ready", "done", "backoff", "stopped"]


PORTS = ("airflow_port", "mlflow_port", "service_port")


class ProcessState(Record, frozen=True):
    """One process. `created` is its start by the kernel's clock: with the pid it is unique."""

    name: str
    phase: Phase
    pid: int | None = None
    created: float | None = None
    restarts: int = 0
    reason: str = ""


class StackState(Record, frozen=True):
    """`ports` are the settings that the stack was started with, by name."""

    supervisor: ProcessState
    processes: tuple[ProcessState, ...]
    ports: dict[str, int]


def ports_of(settings: Settings) -> dict[str, int]:
    return {name: getattr(settings, name) for name in PORTS}


def attach(settings: Settings) -> Settings:
    """The settings with the ports of the stack that runs on this volume, if one does.

    A port is often set for one call of `make up` only; later commands must find the stack
    all the same.
    """
    state = load_state(settings)
    if state is None or not supervisor_runs(state):
        return settings
    return settings.model_copy(update=state.ports)


def state_file(settings: Settings) -> Path:
    return settings.home / "stack" / "state.json"


def save_state(settings: Settings, state: StackState) -> None:
    write_record(state_file(settings), state)


def load_state(settings: Settings) -> StackState | None:
    """The last state written; None where there is none that can be read."""
    try:
        return read_record(state_file(settings), StackState)
    except (NotStored, ArtifactCorrupt):
        return None


def describe(name: str, pid: int, phase: Phase) -> ProcessState:
    try:
        return ProcessState(name, phase, pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return ProcessState(name, "stopped", pid)


def is_alive(process: ProcessState) -> bool:
    """Whether this very process runs, and not another that got its number."""
    if process.pid is None or process.created is None:
        return False
    try:
        found = psutil.Process(process.pid)
        return (
            abs(found.create_time() - process.created) < 1
            and found.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def supervisor_runs(state: StackState | None) -> bool:
    return state is not None and is_alive(state.supervisor)


def stop_groups(processes: list[ProcessState], grace: float) -> None:
    """End process groups: SIGINT to each leader, and SIGKILL to what is left of its group.

    Airflow's parts end cleanly on SIGINT; on SIGTERM they leave children behind.
    """
    leaders = [process for process in processes if is_alive(process)]
    for process in leaders:
        _signal(process, signal.SIGINT, group=False)
    deadline = time.monotonic() + grace
    while any(is_alive(process) for process in leaders) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in processes:
        _signal(process, signal.SIGKILL, group=True)


def _signal(process: ProcessState, number: signal.Signals, *, group: bool) -> None:
    if process.pid is None:
        return
    try:
        if not group:
            os.kill(process.pid, number)
        elif _is_own_group(process):
            os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _is_own_group(process: ProcessState) -> bool:
    """Whether the group that bears this pid was started by this process.

    The leader may be gone while its children live on; they were all made after it.
    """
    if process.pid is None or process.created is None:
        return False
    members = []
    for candidate in psutil.process_iter(["pid", "create_time"]):
        try:
            if os.getpgid(candidate.pid) == process.pid:
                members.append(candidate.info["create_time"])
        except (ProcessLookupError, PermissionError):
            continue
    return bool(members) and min(members) >= process.created - 1
