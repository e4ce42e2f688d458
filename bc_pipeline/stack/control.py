"""Start, stop and look at the embedded stack."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx

from bc_pipeline.artifacts.files import locked, make_directory
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import read_registry
from bc_pipeline.errors import StackError
from bc_pipeline.settings import Settings
from bc_pipeline.stack import preload
from bc_pipeline.stack.components import (
    airflow_url,
    answers,
    components,
    log_file,
    mlflow_url,
    package_environment,
    service_trust,
    service_url,
)
from bc_pipeline.stack.doctor import require_machine
from bc_pipeline.stack.secrets import AIRFLOW_USER, make_secrets, secrets_of
from bc_pipeline.stack.state import (
    StackState,
    is_alive,
    load_state,
    state_file,
    stop_groups,
    supervisor_runs,
)
from bc_pipeline.stack.upgrade import upgrade_volume

STOP_SECONDS = 30.0
GAVE_UP_RESTARTS = 3


def start(settings: Settings) -> bool:
    """Start the supervisor in the background; False where it runs already.

    What an earlier supervisor left behind when it was killed is ended first.

    Raises
    ------
    ConfigError
        Where the machine is not fit: every reason, each with its remedy.
    StoreUnfit
        Where the volume is of a later release, or was restored in part only.
    """
    make_directory(settings.home)
    with locked(state_file(settings).with_suffix(".lock")):
        state = load_state(settings)
        if supervisor_runs(state):
            return False
        if state is not None:
            stop_groups(list(state.processes), grace=5)
        require_machine(settings)
        upgrade_volume(settings)
        make_secrets(settings)
        for folder in ("airflow", "mlflow", "logs"):
            make_directory(settings.home / folder)
        preload.install(settings.home / "airflow")
        state_file(settings).unlink(missing_ok=True)
        _spawn(settings)
    return True


def _spawn(settings: Settings) -> None:
    path = log_file(settings, "supervisor")
    with path.open("ab") as log:
        process = subprocess.Popen(
            (sys.executable, "-m", "bc_pipeline.stack.supervisor"),
            env=package_environment(settings),
            cwd=settings.home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + STOP_SECONDS
    while load_state(settings) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise StackError("The supervisor did not start.", f"See {path}.")
        time.sleep(0.05)


def wait_ready(
    settings: Settings, seconds: float, on_change: Callable[[StackState], None] = lambda _: None
) -> None:
    """Wait until every process is ready.

    Raises
    ------
    StackError
        Naming each process that is not, why, and its log.
    """
    deadline = time.monotonic() + seconds
    shown: StackState | None = None
    while True:
        state = load_state(settings)
        if state is not None and state != shown:
            on_change(state)
            shown = state
        if state is not None and all(p.phase in ("ready", "done") for p in state.processes):
            return
        failing = [p for p in state.processes if p.restarts >= GAVE_UP_RESTARTS] if state else []
        if failing or time.monotonic() > deadline or not supervisor_runs(state):
            late = [p for p in state.processes if p.phase not in ("ready", "done")] if state else []
            raise StackError(
                "Not ready: "
                + "; ".join(
                    f"{p.name} ({p.phase}{', ' + p.reason if p.reason else ''})" for p in late
                )
                + ".",
                f"Look into {settings.home / 'logs'}, then run 'make doctor'.",
            )
        time.sleep(0.1)


def stop(settings: Settings) -> bool:
    """Stop the stack; False where none runs. Nothing on the volume is touched."""
    state = load_state(settings)
    if state is None:
        return False
    was_running = supervisor_runs(state) or any(is_alive(p) for p in state.processes)
    stop_groups([state.supervisor], grace=STOP_SECONDS)
    # The supervisor stops its processes itself; these are what a killed one left.
    stop_groups(list(state.processes), grace=5)
    return was_running


def status(settings: Settings) -> dict[str, Any]:
    """What runs where, and which model is live; plain JSON values."""
    state = load_state(settings)
    running = supervisor_runs(state)
    store = Store(settings.home, settings.service_problem)
    registry = read_registry(store)
    production = registry.production
    return {
        "running": running,
        "ready": running and _all_answer(settings),
        "home": str(settings.home),
        "service": {"url": service_url(settings), "api_key_file": str(settings.api_key)},
        "airflow": {
            "url": airflow_url(settings),
            "user": AIRFLOW_USER,
            "password_file": str(secrets_of(settings).airflow_password),
        },
        "mlflow": {"url": mlflow_url(settings)},
        "champion": {
            "problem": store.problem,
            "version": production.version if production else None,
            "model": production.model if production else None,
            "f1": production.f1 if production else None,
            "promoted_at": production.promoted_at if production else None,
            "verdict": production.kind if production else None,
            "generation": registry.generation,
        },
        "processes": [
            {
                "name": process.name,
                "phase": process.phase if running else "stopped",
                "pid": process.pid if running else None,
                "restarts": process.restarts,
                "reason": process.reason,
                "log": str(log_file(settings, process.name)),
            }
            for process in (state.processes if state else ())
        ],
    }


def _all_answer(settings: Settings) -> bool:
    trust = service_trust(settings)
    with httpx.Client(timeout=2.0, trust_env=False, verify=trust) as client:
        return all(answers(c, client) for c in components(settings) if not c.runs_once)
