"""Is this machine fit for the stack, and is the volume whole? Each finding names its remedy."""

from __future__ import annotations

import shutil
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bc_pipeline.artifacts.sealed import key_needed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import read_format, require_store
from bc_pipeline.artifacts.versions import list_versions, open_champion, read_registry
from bc_pipeline.errors import ConfigError, NoChampion, PipelineError
from bc_pipeline.promotion import audit
from bc_pipeline.serving.model.generation import FILE, read_served, require_not_older
from bc_pipeline.settings import Settings
from bc_pipeline.stack.state import StackState, load_state, supervisor_runs

FREE_BYTES = 2 * 1024**3
MEMORY_BYTES = 3 * 1024**3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    remedy : str
        What to do where it is not well.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; nothing is changed."""
    return [*machine(settings), *volume(settings)]


def machine(settings: Settings) -> Iterator[Finding]:
    """Python, disk, memory and ports."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding(
        "python",
        sys.version_info[:2] == (3, 11),
        version,
        "Make the environment with Python 3.11: make PYTHON=/path/to/python3.11 up.",
    )
    folder = _nearest(settings.home)
    free = shutil.disk_usage(folder).free
    yield Finding(
        "disk",
        free >= FREE_BYTES,
        f"{free / 1024**3:.1f} GiB free for {settings.home}",
        "Free 2 GiB, or put BC_HOME on a larger disk.",
    )
    memory = psutil.virtual_memory().available
    yield Finding(
        "memory",
        memory >= MEMORY_BYTES or supervisor_runs(load_state(settings)),
        f"{memory / 1024**3:.1f} GiB available",
        "The stack needs about 3 GiB: end other programs.",
    )
    state = load_state(settings)
    yield from (_port(settings, name, port, state) for name, port in _ports(settings).items())


def _ports(settings: Settings) -> dict[str, int]:
    return {
        "BC_AIRFLOW_PORT": settings.airflow_port,
        "BC_MLFLOW_PORT": settings.mlflow_port,
        "BC_SERVICE_PORT": settings.service_port,
    }


def _port(settings: Settings, name: str, port: int, state: StackState | None) -> Finding:
    twins = [other for other, number in _ports(settings).items() if number == port]
    if len(twins) > 1:
        asked = f"is asked for by {' and '.join(twins)}"
        return Finding(f"port {port}", False, asked, "Give each its own port.")
    if supervisor_runs(state):
        return Finding(f"port {port}", True, f"{name}, used by this stack")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, port))
        except OSError as error:
            return Finding(
                f"port {port}",
                False,
                f"cannot be bound: {error.strerror}{_holder(port)}",
                f"End that program, or choose another port: {name}={port + 1} make up.",
            )
    return Finding(f"port {port}", True, f"{name}, free")


def _holder(port: int) -> str:
    """Name of the process that listens on a port, as far as this user may see."""
    try:
        for connection in psutil.net_connections("tcp"):
            local: Any = connection.laddr
            listens = connection.status == psutil.CONN_LISTEN and local.port == port
            if listens and connection.pid:
                return f" (held by {psutil.Process(connection.pid).name()}, pid {connection.pid})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return ""
    return ""


def volume(settings: Settings) -> Iterator[Finding]:
    """Keys, champion and audit log of every problem on the volume."""
    keys = {
        "BC_SIGNING_KEY_FILE": settings.signing_key,
        "BC_VERIFY_KEY_FILE": settings.verify_key,
        "BC_API_KEY_FILE": settings.api_key,
    }
    for name, key in keys.items():
        yield Finding(
            name, key.is_file(), str(key), f"'make up' makes it; or set {name} to a file."
        )
    yield _store(settings)
    models = settings.home / "models"
    for folder in sorted(models.iterdir()) if models.is_dir() else []:
        store = Store(settings.home, folder.name)
        yield _champion(settings, store)
        yield _audit(store)
        yield _encryption(settings, store)
        if store.problem == settings.service_problem:
            yield _generation(settings, store)


def _store(settings: Settings) -> Finding:
    """Whether the volume as a whole is of this release's format."""
    try:
        require_store(settings.home)
    except PipelineError as error:
        return Finding("store", False, error.message, error.remedy)
    return Finding("store", True, f"format {read_format(settings.home)}")


def _champion(settings: Settings, store: Store) -> Finding:
    name = f"{store.problem} champion"
    try:
        champion = open_champion(store, settings.verify_key)
        champion.verify_all()
    except NoChampion:
        return Finding(name, True, "none yet")
    except PipelineError as error:
        return Finding(name, False, str(error), "Roll back: bc-pipeline rollback.")
    return Finding(name, True, f"{champion.manifest.version}, signature and digests verified")


def _audit(store: Store) -> Finding:
    name = f"{store.problem} audit log"
    try:
        report = audit.verify(store)
    except PipelineError as error:
        return Finding(name, False, str(error), "Compare the log with a backup; do not edit it.")
    return Finding(name, True, f"{report.lines} lines, hash chain holds")


def _encryption(settings: Settings, store: Store) -> Finding:
    """Which keys the versions were encrypted with, and whether the live ones can be opened."""
    name = f"{store.problem} encryption"
    try:
        cipher = settings.artifact_cipher()
        registry = read_registry(store)
    except PipelineError as error:
        return Finding(name, False, error.message, error.remedy)
    needed = {version: key_needed(store.version(version)) for version in list_versions(store)}
    counts = Counter(needed.values())
    at_hand = {None, *(cipher.key_ids if cipher else ())}
    said = [
        f"{count} plain"
        if key is None
        else f"{count} with the key {key} ({'at hand' if key in at_hand else 'not at hand'})"
        for key, count in sorted(counts.items(), key=lambda item: item[0] or "")
    ]
    pointers = (registry.production, registry.staging, registry.previous)
    shut = sorted({p.version for p in pointers if p and needed.get(p.version) not in at_hand})
    remedy = f"Let BC_ARTIFACT_KEY_FILE hold the key of {', '.join(shut)}." if shut else ""
    return Finding(name, not shut, "versions: " + (", ".join(said) or "none yet"), remedy)


def _generation(settings: Settings, store: Store) -> Finding:
    """Whether the service, which goes forward only, would take what the registry says."""
    name, path = f"{store.problem} generation", settings.records / FILE
    try:
        registry, served = read_registry(store), read_served(path)
        require_not_older(registry, served, path)
    except PipelineError as error:
        return Finding(name, False, error.message, error.remedy)
    so_far = f"served up to {served.generation}" if served else "nothing served yet"
    return Finding(name, True, f"registry at {registry.generation}, {so_far}")


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    while not path.exists():
        path = path.parent
    return path


def require_machine(settings: Settings) -> None:
    """Refuse to start on a machine that is not fit.

    Raises
    ------
    ConfigError
        Naming everything that is not well, each with its remedy.
    """
    bad = [finding for finding in machine(settings) if not finding.ok]
    if bad:
        raise ConfigError(
            " ".join(f"{finding.name}: {finding.detail}." for finding in bad),
            " ".join(finding.remedy for finding in bad),
            setting=", ".join(finding.name for finding in bad),
        )
