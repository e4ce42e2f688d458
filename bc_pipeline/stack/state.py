"""The supervisor's state file, which the commands read."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Literal

import psutil

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import read_document, write_document
from bc_pipeline.errors import ArtifactCorrupt, NotStored
from bc_pipeline.settings import Settings

Phase = Literal["waiting", "starting", "ready", "done", "backoff", "stopped"]
PORTS = ("airflow_port", "mlflow_port", "service_port")


class ProcessState(Document, frozen=True):
    """One process; its pid and `created`, its start time, identify it uniquely."""

    name: str
    phase: Phase
    pid: int | None = None
    created: float | None = None
    restarts: int = 0
    reason: str = ""


class StackState(Document, frozen=True):
    """State of the supervisor; `ports` are the settings that the stack was started with."""

    supervisor: ProcessState
    processes: tuple[ProcessState, ...]
    ports: dict[str, int]


def configured_ports(settings: Settings) -> dict[str, int]:
    return {name: getattr(settings, name) for name in PORTS}


def port_variables(settings: Settings) -> dict[str, int]:
    """The same, by the environment variables that configure them."""
    return {f"BC_{name.upper()}": port for name, port in configured_ports(settings).items()}


def with_running_ports(settings: Settings) -> Settings:
    """Return the settings with the ports of the stack that runs on this volume, if one does.

    Ports are often set for one call of `make up` only; later commands must still find the
    stack.
    """
    state = load_state(settings)
    if state is None or not is_supervisor_running(state):
        return settings
    return settings.model_copy(update=state.ports)


def state_file(settings: Settings) -> Path:
    return settings.home / "stack" / "state.json"


def save_state(settings: Settings, state: StackState) -> None:
    write_document(state_file(settings), state)


def load_state(settings: Settings) -> StackState | None:
    """Read the state; None where there is no readable file."""
    try:
        return read_document(state_file(settings), StackState)
    except (NotStored, ArtifactCorrupt):
        return None


def describe(name: str, pid: int, phase: Phase) -> ProcessState:
    try:
        return ProcessState(name, phase, pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return ProcessState(name, "stopped", pid)


def is_alive(process: ProcessState) -> bool:
    """Return whether the process runs, and not another one with the same pid."""
    if process.pid is None or process.created is None:
        return False
    try:
        current = psutil.Process(process.pid)
        return (
            abs(current.create_time() - process.created) < 1
            and current.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def is_supervisor_running(state: StackState | None) -> bool:
    return state is not None and is_alive(state.supervisor)


def stop_process_groups(processes: list[ProcessState], grace: float) -> None:
    """End process groups: SIGINT to each leader, and SIGKILL to what is left of its group.

    Airflow's components end cleanly on SIGINT; on SIGTERM they leave children behind.
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
    """Return whether the process group of this pid was started by this process.

    The leader may have ended before its children, which all started after it.
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
