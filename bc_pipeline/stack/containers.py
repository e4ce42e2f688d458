"""The deployment in containers, driven through Docker Compose or podman-compose."""

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

from bc_pipeline.errors import ConfigError, StackError
from bc_pipeline.stack.container_secrets import require_container_secrets

PROJECT: Final = "bc-pipeline"
# What may be started beside the rest; the last of all is only for single commands.
STARTED: Final = ("observability", "spark", "flower")
PROFILES: Final = (*STARTED, "debug")
COMMANDS_SERVICE: Final = "airflow-cli"
_PAUSE_SECONDS = 2.0
# Exit code of `podman healthcheck run` for a container that has no health check.
_NO_CHECK = 125
_STANDARD_ERROR = 2


@dataclass(frozen=True)
class Engine:
    """How compose files are run on this machine.

    Attributes
    ----------
    command : tuple of str
        What comes before compose's own arguments.
    waits : bool
        Whether ``up --wait`` knows the health of containers. Podman learns it only where
        systemd runs its timers, so there the checks are run from here.
    """

    command: tuple[str, ...]
    waits: bool

    def arguments(self, project: Path, profiles: Sequence[str], *words: str) -> list[str]:
        chosen = [word for profile in profiles for word in ("--profile", profile)]
        file = str(project / "docker-compose.yaml")
        return [*self.command, "--file", file, *chosen, *words]


def find_engine() -> Engine:
    """Docker with its compose plugin, else podman-compose.

    Raises
    ------
    ConfigError
        Where there is neither.
    """
    # A client alone is not enough: its engine must answer, and the plugin be there.
    if _succeeds("docker", "info") and _succeeds("docker", "compose", "version"):
        return Engine(("docker", "compose"), waits=True)
    beside = Path(sys.executable).with_name("podman-compose")
    podman_compose = shutil.which("podman-compose") or (str(beside) if beside.exists() else None)
    if shutil.which("podman") and podman_compose:
        return Engine((podman_compose,), waits=False)
    raise ConfigError(
        "Neither 'docker compose' nor 'podman-compose' works here.",
        "Install Docker with its compose plugin, or podman and podman-compose.",
        setting="PATH",
    )


def start(
    project: Path, profiles: Sequence[str], seconds: float, tell: Callable[[str], None]
) -> None:
    """Start every service of the profiles and wait until all of them are well.

    Parameters
    ----------
    project : Path
        Folder of ``docker-compose.yaml`` and ``secrets/``.
    seconds : float
        How long to wait.

    Raises
    ------
    ConfigError
        Where there is no such profile, secrets are missing, or there is no engine.
    StackError
        Where a container does not start or does not become well.
    """
    # Compose itself passes over a name that it does not know.
    if unknown := [profile for profile in profiles if profile not in STARTED]:
        raise ConfigError(
            f"No such profile can be started: {', '.join(unknown)}.",
            f"Choose from: {', '.join(STARTED)}.",
            setting="--profile",
        )
    require_container_secrets(project / "secrets")
    engine = find_engine()
    tell(f"Starting the containers with {' '.join(engine.command)}.")
    deadline = time.monotonic() + seconds
    wait = ("--wait", "--wait-timeout", str(int(seconds))) if engine.waits else ()
    _run(engine.arguments(project, profiles, "up", "--detach", *wait))
    if not engine.waits:
        _wait_for_podman(deadline, tell)
    tell("All containers are well.")


def stop(project: Path) -> None:
    """Stop and remove every container of the deployment; the volumes stay.

    Raises
    ------
    ConfigError
        Where there is no engine.
    StackError
        Where the engine cannot do it.
    """
    engine = find_engine()
    _run(engine.arguments(project, PROFILES, "down"))
    # podman-compose ends with 0 whether or not it could.
    if not engine.waits and (left := [entry["Names"][0] for entry in _containers()]):
        raise StackError(
            f"Containers are still there: {', '.join(sorted(left))}.",
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


def _wait_for_podman(deadline: float, tell: Callable[[str], None]) -> None:
    waiting: dict[str, str] = {}
    while True:
        before, waiting = waiting, _not_well()
        for name in sorted(set(before) - set(waiting)):
            tell(f"{name}: well")
        if not waiting:
            return
        if time.monotonic() > deadline:
            told = ", ".join(f"{name} ({reason})" for name, reason in sorted(waiting.items()))
            raise StackError(f"Containers did not become well: {told}.", "See 'podman logs NAME'.")
        time.sleep(_PAUSE_SECONDS)


def _not_well() -> dict[str, str]:
    """Containers that are not as they should be, each with the reason."""
    found = {entry["Names"][0]: _reason(entry) for entry in _containers()}
    return {name: reason for name, reason in found.items() if reason}


def _containers() -> list[dict[str, Any]]:
    """What podman knows of each container of the deployment."""
    label = f"label=io.podman.compose.project={PROJECT}"
    told = subprocess.run(
        ("podman", "ps", "--all", "--filter", label, "--format", "json"),
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    found: list[dict[str, Any]] = json.loads(told)
    return found


def _reason(entry: dict[str, Any]) -> str:
    """Why a container is not well; empty where it is, or has done what it was started for."""
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
    # Compose writes its progress to standard error, and container names to standard output,
    # which belongs to the answer of our own command.
    done = subprocess.run(command, check=False, stdout=_STANDARD_ERROR)
    if done.returncode != 0:
        raise StackError(
            f"'{' '.join(command)}' ended with {done.returncode}.",
            "Its output says why. Images that are missing are built by 'make images'; "
            "what a container wrote is shown by 'logs NAME' of the same program.",
        )
