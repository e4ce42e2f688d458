"""Check the machine and the volume; each failed check has a remedy."""

from __future__ import annotations

import shutil
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.release_history import require_released
from bc_pipeline.artifacts.remembered_tip import FILE as TIP_FILE
from bc_pipeline.artifacts.remembered_tip import read_remembered_tip, require_remembered
from bc_pipeline.artifacts.signed_bundle import required_key_id
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import read_format, require_store, require_volume
from bc_pipeline.artifacts.versions import list_versions, open_champion
from bc_pipeline.errors import ConfigError, NoChampion, PipelineError, counted
from bc_pipeline.promotion import audit
from bc_pipeline.promotion.batch_decisions import check_batches
from bc_pipeline.promotion.erasure_record import check_erasures
from bc_pipeline.serving.model.replay_guard import FILE, read_last_served, require_not_replayed
from bc_pipeline.settings import Settings
from bc_pipeline.stack.signing_keys import list_keys
from bc_pipeline.stack.state import StackState, is_supervisor_running, load_state, port_variables

FREE_BYTES = 2 * 1024**3
MEMORY_BYTES = 3 * 1024**3


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes
    ----------
    remedy : str
        What to do where the check failed.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def check_all(settings: Settings) -> list[CheckResult]:
    """Run every check; nothing is changed."""
    return [*check_machine(settings), *check_volume(settings)]


def check_machine(settings: Settings) -> Iterator[CheckResult]:
    """Check Python, disk, memory and ports."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield CheckResult(
        "python",
        sys.version_info[:2] == (3, 11),
        version,
        "Make the environment with Python 3.11: make PYTHON=/path/to/python3.11 up.",
    )
    folder = _nearest(settings.home)
    free = shutil.disk_usage(folder).free
    yield CheckResult(
        "disk",
        free >= FREE_BYTES,
        f"{free / 1024**3:.1f} GiB free for {settings.home}",
        "Free 2 GiB, or put BC_HOME on a larger disk.",
    )
    state = load_state(settings)
    memory = psutil.virtual_memory().available
    yield CheckResult(
        "memory",
        memory >= MEMORY_BYTES or is_supervisor_running(state),
        f"{memory / 1024**3:.1f} GiB available",
        "The stack needs about 3 GiB: end other programs.",
    )
    for variable, port in port_variables(settings).items():
        yield _port(settings, variable, port, state)


def _port(settings: Settings, name: str, port: int, state: StackState | None) -> CheckResult:
    same_port = [other for other, number in port_variables(settings).items() if number == port]
    if len(same_port) > 1:
        detail = f"is configured by {' and '.join(same_port)}"
        return CheckResult(f"port {port}", False, detail, "Give each its own port.")
    if is_supervisor_running(state):
        return CheckResult(f"port {port}", True, f"{name}, used by this stack")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, port))
        except OSError as error:
            return CheckResult(
                f"port {port}",
                False,
                f"cannot be bound: {error.strerror}{_holder(port)}",
                f"End that program, or choose another port: {name}={port + 1} make up.",
            )
    return CheckResult(f"port {port}", True, f"{name}, free")


def _holder(port: int) -> str:
    """Return the process that listens on a port, where this user may see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            local: Any = connection.laddr
            listens = connection.status == psutil.CONN_LISTEN and local.port == port
            if listens and connection.pid:
                return f" (held by {psutil.Process(connection.pid).name()}, pid {connection.pid})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return ""
    return ""


def check_volume(settings: Settings) -> Iterator[CheckResult]:
    """Check keys, champion, audit log and encryption of every problem on the volume."""
    keys = {
        "BC_SIGNING_KEY_FILE": settings.signing_key,
        "BC_VERIFY_KEY_FILE": settings.verify_key,
        "BC_API_KEY_FILE": settings.api_key,
    }
    for name, key in keys.items():
        yield CheckResult(
            name, key.is_file(), str(key), f"'make up' makes it; or set {name} to a file."
        )
    yield _check("signing keys", "", _signing_keys, settings)
    yield _check("store", "", _store, settings)
    models = settings.home / "models"
    for folder in sorted(models.iterdir()) if models.is_dir() else []:
        store = Store.of(settings, folder.name)
        name = store.problem
        yield _check(f"{name} registry", "", _registry, store)
        rollback = "Roll back: bc-pipeline rollback."
        yield _check(f"{name} champion", rollback, _champion, settings, store)
        compare = "Compare the log with a backup; do not edit it."
        yield _check(f"{name} audit log", compare, _audit, store)
        yield _check(f"{name} batches", "", check_batches, store)
        yield _check(f"{name} erasures", "", check_erasures, store)
        yield _check(f"{name} encryption", "", _encryption, settings, store)
        if name == settings.service_problem:
            yield _check(f"{name} generation", "", _generation, settings, store)
            yield _check(f"{name} audit tip", "", _audit_tip, settings, store)


def _check(name: str, remedy: str, check: Callable[..., str], *arguments: object) -> CheckResult:
    """Run a check that returns the detail, or raises; without a remedy, that of the error."""
    try:
        return CheckResult(name, True, check(*arguments))
    except PipelineError as error:
        detail = str(error) if remedy else error.message
        return CheckResult(name, False, detail, remedy or error.remedy)


def _store(settings: Settings) -> str:
    require_volume(settings.home)
    require_store(settings.home)
    return f"format {read_format(settings.home)}"


def _signing_keys(settings: Settings) -> str:
    """Check that readers trust the key that signs, and no distrusted one."""
    keys = list_keys(settings)
    distrusted = [key["key_id"] for key in keys if key["distrusted_since"] and key["trusted"]]
    if distrusted:
        raise ConfigError(
            f"BC_VERIFY_KEY_FILE holds {', '.join(distrusted)}, which is distrusted",
            "Remove it there and for all readers: `bc-pipeline keys distrust` again, or by hand.",
        )
    untrusted = [key["key_id"] for key in keys if key["signs"] and not key["trusted"]]
    if untrusted:
        raise ConfigError(
            f"BC_VERIFY_KEY_FILE does not hold the key that signs, {', '.join(untrusted)}",
            "Add its public key for all readers.",
        )
    return "; ".join(f"{key['key_id']} {_key_state(key)}" for key in keys)


def _key_state(key: dict[str, Any]) -> str:
    if key["distrusted_since"]:
        return f"distrusted since {key['distrusted_since']}"
    return "signs" if key["signs"] else "trusted, does not sign"


def _audit_tip(settings: Settings, store: Store) -> str:
    """Compare the audit log with the tip that the service remembers."""
    path = settings.records / TIP_FILE
    require_remembered(store, path)
    remembered = read_remembered_tip(path)
    return f"has line {remembered.sequence} of {remembered.at}" if remembered else "none remembered"


def _registry(store: Store) -> str:
    """Check the registry's signature, and that the audit log has its release."""
    registry = read_registry(store)
    require_released(registry, read_audit_log(store).lines)
    return f"generation {registry.generation}, signature verified"


def _champion(settings: Settings, store: Store) -> str:
    try:
        champion = open_champion(store, settings.verify_key)
        champion.verify_all()
    except NoChampion:
        return "none yet"
    return f"{champion.manifest.version}, signature and digests verified"


def _audit(store: Store) -> str:
    report = audit.verify(store)
    distrusted = f", {report.distrusted_lines} distrusted" if report.distrusted_lines else ""
    return f"{counted(report.lines, 'line')}, chain and signatures hold{distrusted}"


def _encryption(settings: Settings, store: Store) -> str:
    """Check that the versions of the registry can be decrypted; count versions by key."""
    cipher = settings.artifact_cipher()
    registry = read_registry(store)
    required = {
        version: required_key_id(store.version(version)) for version in list_versions(store)
    }
    counts = Counter(required.values())
    available = {None, *(cipher.key_ids if cipher else ())}
    details = [
        f"{count} plain"
        if key is None
        else f"{count} with the key {key} ({'available' if key in available else 'not available'})"
        for key, count in sorted(counts.items(), key=lambda item: item[0] or "")
    ]
    pointers = (registry.production, registry.staging, registry.previous)
    locked = sorted({p.version for p in pointers if p and required.get(p.version) not in available})
    detail = f"versions: {', '.join(details) or 'none yet'}"
    if locked:
        raise ConfigError(detail, f"Let BC_ARTIFACT_KEY_FILE hold the key of {', '.join(locked)}.")
    return detail


def _generation(settings: Settings, store: Store) -> str:
    """Check that the service's replay guard accepts the registry."""
    path = settings.records / FILE
    registry, served = read_registry(store), read_last_served(store, path)
    require_not_replayed(registry, served, path)
    last_served = f"served up to {served.generation}" if served else "nothing served yet"
    return f"registry at {registry.generation}, {last_served}"


def _nearest(path: Path) -> Path:
    """Return the folder itself, or its nearest existing ancestor."""
    while not path.exists():
        path = path.parent
    return path


def require_machine(settings: Settings) -> None:
    """Require that every check of the machine passes.

    Raises
    ------
    ConfigError
        Naming every failed check with its remedy.
    """
    failed = [check for check in check_machine(settings) if not check.ok]
    if failed:
        raise ConfigError(
            " ".join(f"{check.name}: {check.detail}." for check in failed),
            " ".join(check.remedy for check in failed),
            setting=", ".join(check.name for check in failed),
        )
