"""Start and stop the containers with Docker Compose or podman-compose."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bc_pipeline.deployment.container_secrets import require_container_secrets
from bc_pipeline.errors import ConfigError, StackError

PROJECT: Final = "bc-pipeline"
# Optional profiles; `debug` is only for single commands.
STARTABLE_PROFILES: Final = ("observability", "spark", "flower")
PROFILES: Final = (*STARTABLE_PROFILES, "debug")
COMMANDS_SERVICE: Final = "airflow-cli"
_PAUSE_SECONDS = 2.0
# Exit code of `podman healthcheck run` for a container that has no health check.
_NO_CHECK = 125
_STANDARD_ERROR = 2


@dataclass(frozen=True)
class Engine:
    """The Compose program of this machine.

    Attributes
    ----------
    command : tuple of str
        Command before the arguments of Compose.
    waits : bool
        Whether ``up --wait`` waits for health checks. Podman needs systemd for that, so this
        module runs the checks for it.
    """

    command: tuple[str, ...]
    waits: bool

    def arguments(self, project: Path, profiles: Sequence[str], *words: str) -> list[str]:
        options = [word for profile in profiles for word in ("--profile", profile)]
        file = str(project / "docker-compose.yaml")
        return [*self.command, "--file", file, *options, *words]


def find_engine() -> Engine:
    """Find Docker with its Compose plugin, or else podman-compose.

    Raises
    ------
    ConfigError
        Where there is neither.
    """
    # The client alone is not enough: its engine must answer, and the plugin must exist.
    if _succeeds("docker", "info") and _succeeds("docker", "compose", "version"):
        return Engine(("docker", "compose"), waits=True)
    installed = Path(sys.executable).with_name("podman-compose")
    podman_compose = shutil.which("podman-compose") or shutil.which(str(installed))
    if shutil.which("podman") and podman_compose:
        return Engine((podman_compose,), waits=False)
    raise ConfigError(
        "Neither 'docker compose' nor 'podman-compose' works here.",
        "Install Docker with its compose plugin, or podman and podman-compose.",
        setting="PATH",
    )


def start(
    project: Path, profiles: Sequence[str], seconds: float, report: Callable[[str], None]
) -> None:
    """Start every service of the profiles and wait until all are healthy.

    Parameters
    ----------
    project : Path
        Folder of ``docker-compose.yaml`` and ``secrets/``.
    seconds : float
        How long to wait.

    Raises
    ------
    ConfigError
        Where a profile does not exist, secrets are missing, or there is no engine.
    StackError
        Where a container does not start or does not become healthy.
    """
    # Compose itself ignores unknown profiles.
    if unknown := [profile for profile in profiles if profile not in STARTABLE_PROFILES]:
        raise ConfigError(
            f"No such profile can be started: {', '.join(unknown)}.",
            f"Choose from: {', '.join(STARTABLE_PROFILES)}.",
            setting="--profile",
        )
    require_container_secrets(project / "secrets")
    engine = find_engine()
    report(f"Starting the containers with {' '.join(engine.command)}.")
    deadline = time.monotonic() + seconds
    wait = ("--wait", "--wait-timeout", str(int(seconds))) if engine.waits else ()
    _run(engine.arguments(project, profiles, "up", "--detach", *wait))
    if not engine.waits:
        _wait_for_podman(deadline, report)
    report("All containers are healthy.")


def stop(project: Path) -> None:
    """Stop and remove every container of the deployment; the volumes stay.

    Raises
    ------
    ConfigError
        Where there is no engine.
    StackError
        Where containers remain.
    """
    engine = find_engine()
    _run(engine.arguments(project, PROFILES, "down"))
    # podman-compose exits with 0 even where it failed.
    if not engine.waits and (remaining := [entry["Names"][0] for entry in _containers()]):
        raise StackError(
            f"Containers are still there: {', '.join(sorted(remaining))}.",
            "Call it again; 'podman rm --force NAME' removes one.",
        )


def run_command(project: Path, *words: str) -> int:
    """Run one ``bc-pipeline`` command in a container that is removed afterwards.

    Returns
    -------
    int
        Its exit code.
    """
    run = ("run", "--rm", "--no-deps", "-T", COMMANDS_SERVICE, "bc-pipeline", *words)
    command = find_engine().arguments(project, ("debug",), *run)
    return subprocess.run(command, check=False).returncode


def _wait_for_podman(deadline: float, report: Callable[[str], None]) -> None:
    waiting: dict[str, str] = {}
    while True:
        before, waiting = waiting, _unhealthy_containers()
        for name in sorted(set(before) - set(waiting)):
            report(f"{name}: healthy")
        if not waiting:
            return
        if time.monotonic() > deadline:
            reasons = ", ".join(f"{name} ({reason})" for name, reason in sorted(waiting.items()))
            raise StackError(
                f"Containers did not become healthy: {reasons}.", "See 'podman logs NAME'."
            )
        time.sleep(_PAUSE_SECONDS)


def _unhealthy_containers() -> dict[str, str]:
    """Return the containers that are not healthy, each with the reason."""
    reasons = {entry["Names"][0]: _reason(entry) for entry in _containers()}
    return {name: reason for name, reason in reasons.items() if reason}


def _containers() -> list[dict[str, Any]]:
    """Return podman's description of each container of the deployment."""
    label = f"label=io.podman.compose.project={PROJECT}"
    output = subprocess.run(
        ("podman", "ps", "--all", "--filter", label, "--format", "json"),
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    containers: list[dict[str, Any]] = json.loads(output)
    return containers


def _reason(entry: dict[str, Any]) -> str:
    """Return why a container is not healthy; empty where it is, or has ended with success."""
    if entry["State"] != "running":
        done = entry["State"] == "exited" and entry["ExitCode"] == 0
        return "" if done else f"{entry['State']}, exit code {entry['ExitCode']}"
    checked = subprocess.run(
        ("podman", "healthcheck", "run", entry["Names"][0]), capture_output=True, check=False
    )
    return "" if checked.returncode in (0, _NO_CHECK) else "not healthy yet"


def _succeeds(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(command: list[str]) -> None:
    # Compose writes container names to standard output, which is reserved for the result of
    # our own command.
    done = subprocess.run(command, check=False, stdout=_STANDARD_ERROR)
    if done.returncode != 0:
        raise StackError(
            f"'{' '.join(command)}' ended with {done.returncode}.",
            "See its output. 'make images' builds missing images; 'logs NAME' of the same program "
            "shows the output of a container.",
        )
