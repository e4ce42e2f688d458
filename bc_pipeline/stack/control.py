"""Start, stop and look at the embedded stack."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from bc_pipeline.artifacts.files import locked, make_directory
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import is_unused
from bc_pipeline.clock import poll
from bc_pipeline.errors import PipelineError, StackError, StoreError
from bc_pipeline.settings import Settings
from bc_pipeline.stack import preload
from bc_pipeline.stack.components import (
    airflow_url,
    components,
    http_client,
    is_healthy,
    log_file,
    mlflow_url,
    package_environment,
    service_url,
    training_runs_url,
)
from bc_pipeline.stack.credentials import AIRFLOW_USER, make_secrets, secret_file
from bc_pipeline.stack.doctor import require_machine
from bc_pipeline.stack.signing_keys import declared_distrusted
from bc_pipeline.stack.state import (
    StackState,
    is_alive,
    is_supervisor_running,
    load_state,
    state_file,
    stop_process_groups,
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
        if is_supervisor_running(state):
            return False
        if state is not None:
            stop_process_groups(list(state.processes), grace=5)
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
    for _ in poll(STOP_SECONDS, 0.05):
        if load_state(settings) is not None:
            return
        if process.poll() is not None:
            break
    raise StackError("The supervisor did not start.", f"See {path}.")


def wait_ready(settings: Settings, seconds: float, on_change: Callable[[StackState], None]) -> None:
    """Wait until every process is ready.

    Raises
    ------
    StackError
        Naming each process that is not, why, and its log.
    """
    shown: StackState | None = None
    for _ in poll(seconds, 0.1):
        state = load_state(settings)
        if state is not None and state != shown:
            on_change(state)
            shown = state
        processes = state.processes if state is not None else ()
        late = [p for p in processes if p.phase not in ("ready", "done")]
        if state is not None and not late:
            return
        failing = any(p.restarts >= GAVE_UP_RESTARTS for p in processes)
        if failing or not is_supervisor_running(state):
            break
    reasons = (f"{p.name} ({', '.join(filter(None, (p.phase, p.reason)))})" for p in late)
    raise StackError(
        f"Not ready: {'; '.join(reasons)}.",
        f"Look into {settings.home / 'logs'}, then run 'make doctor'.",
    )


def stop(settings: Settings) -> bool:
    """Stop the stack; False where none runs. Nothing on the volume is touched."""
    state = load_state(settings)
    if state is None:
        return False
    was_running = is_supervisor_running(state) or any(is_alive(p) for p in state.processes)
    stop_process_groups([state.supervisor], grace=STOP_SECONDS)
    # The supervisor stops its processes itself; these are what a killed one left.
    stop_process_groups(list(state.processes), grace=5)
    return was_running


def status(settings: Settings) -> dict[str, Any]:
    """Processes, addresses and the live model; plain JSON values."""
    state = load_state(settings)
    running = is_supervisor_running(state)
    store = Store.of(settings, settings.service_problem)
    registry, fault = _read_registry(store)
    production = registry.production if registry else None
    return {
        "running": running,
        "ready": running and fault is None and _all_answer(settings),
        "home": str(settings.home),
        "volume": not is_unused(settings.home),
        "service": {"url": service_url(settings), "api_key_file": str(settings.api_key)},
        "airflow": {
            "url": airflow_url(settings),
            "user": AIRFLOW_USER,
            "password_file": str(secret_file(settings, "airflow_password")),
        },
        "mlflow": {"url": mlflow_url(settings), "training_runs": _training_runs(settings)},
        "champion": {
            "problem": store.problem,
            "version": production.version if production else None,
            "model": production.model if production else None,
            "f1": production.f1 if production else None,
            "promoted_at": production.promoted_at if production else None,
            "verdict": production.kind if production else None,
            "generation": registry.generation if registry else None,
            "fault": fault,
        },
        "distrusted_keys": _distrusted_keys(settings),
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


def _training_runs(settings: Settings) -> str:
    with http_client(settings) as client:
        return training_runs_url(settings, client)


def _distrusted_keys(settings: Settings) -> dict[str, str]:
    """Since when a signing key is distrusted; none where the audit log cannot be read."""
    try:
        return declared_distrusted(settings)
    except PipelineError:
        return {}


def _read_registry(store: Store) -> tuple[Registry | None, str | None]:
    """The registry; or None, and why it is refused and what to do."""
    try:
        return read_registry(store), None
    except StoreError as error:
        return None, str(error)


def _all_answer(settings: Settings) -> bool:
    with http_client(settings) as client:
        return all(is_healthy(c, client) for c in components(settings) if not c.runs_once)
