"""Mirroring the volume in MLflow.

The volume is the source of truth. MLflow is written to afterwards, so that an outage of MLflow
can neither fail nor undo a promotion; each call writes everything that MLflow lacks. A registered
model mirrors one volume (`mirror_claim`): no other volume writes to it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import list_versions, open_stored
from bc_pipeline.errors import PipelineError
from bc_pipeline.problems.base import Problem
from bc_pipeline.training.mirror_claim import claim_model, read_identity
from bc_pipeline.training.mlflow_tags import PASSED, read_tracked_version
from bc_pipeline.training.results import list_documents
from bc_pipeline.training.tracking import MlflowTracker, connect

# User and password in a URL.
_CREDENTIALS = re.compile(r"(\w://)[^/\s]*@")


@dataclass(frozen=True)
class MirrorReport:
    """The result of a call of `mirror`.

    Attributes
    ----------
    mirrored : int
        Number of versions that this call wrote.
    failed : int
        Number of versions and aliases that are still missing; the next call tries again.
    reason : str
        Why the first of them failed.
    """

    mirrored: int
    failed: int
    reason: str = ""


def mirror(
    problem: Problem,
    store: Store,
    tracking_uri: str,
    verify_key: Path,
    *,
    request_seconds: int = 5,
    budget_seconds: float = 300.0,
) -> MirrorReport:
    """Write every version that MLflow lacks, and set the aliases.

    Each version becomes a run with one child run per candidate; those that passed their
    gate are registered as model versions too. A version that was written only in part is
    deleted there and written again. Never raises: errors are in the report.

    Parameters
    ----------
    problem : Problem
        Its name becomes that of the experiment and of the registered model.
    tracking_uri : str
        MLflow's server, or its database.
    verify_key : Path
        Public key for the signatures of versions.
    request_seconds : int
        Timeout of one request, unless ``MLFLOW_HTTP_REQUEST_TIMEOUT`` is set.
    budget_seconds : float
        No further version is started after this time.
    """
    began = time.monotonic()
    try:
        with _short_timeouts(request_seconds), locked(store.mirror_lock, timeout=request_seconds):
            report = MirrorReport(0, 0)
            if list_versions(store):
                tracker = _claimed_tracker(problem, store, tracking_uri, verify_key)
                report = _write_missing(tracker, store, verify_key, began + budget_seconds)
    except Exception as error:  # MLflow passes on any exception of its database or transport
        report = MirrorReport(0, max(1, len(list_versions(store))), _reason(error))
    structlog.get_logger().info(
        "mlflow_mirrored",
        problem=problem.name,
        mirrored=report.mirrored,
        failed=report.failed,
        reason=report.reason,
        seconds=round(time.monotonic() - began, 2),
    )
    return report


def _claimed_tracker(
    problem: Problem, store: Store, tracking_uri: str, verify_key: Path
) -> MlflowTracker:
    """A tracker of the registered model, which is this volume's.

    Raises
    ------
    ConfigError
        Where the model mirrors another volume.
    """
    identity = read_identity(store)
    client = connect(tracking_uri)
    claim_model(client, problem, identity, store, verify_key)
    return MlflowTracker(problem.name, client, identity.note(problem.title))


def _reason(error: Exception) -> str:
    """First line of an error, without a password.

    Transport errors have several lines of the same, and quote the tracking URI.
    """
    if isinstance(error, PipelineError):
        return str(error)
    line = (str(error).splitlines() or [""])[0]
    return _CREDENTIALS.sub(r"\1", line)[:300] or type(error).__name__


@contextmanager
def _short_timeouts(request_seconds: int) -> Iterator[None]:
    """Set short timeouts and few log lines for MLflow's client; variables that are set stay."""
    defaults = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(request_seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _write_missing(
    tracker: MlflowTracker, store: Store, verify_key: Path, deadline: float
) -> MirrorReport:
    """Write missing versions, oldest first; a version that fails does not stop the others."""
    complete, registered = tracker.complete_versions(), tracker.registered_versions()
    missing = [
        version
        for version in list_versions(store)
        if version not in complete or (complete[version] == PASSED and version not in registered)
    ]
    candidates = list_documents(store) if missing else []
    mirrored = 0
    failures: list[str] = []
    for position, version in enumerate(missing):
        if time.monotonic() > deadline:
            failures += ["The time limit was reached."] * (len(missing) - position)
            break
        try:
            tracker.write_version(
                read_tracked_version(open_stored(store, version, verify_key), candidates)
            )
            mirrored += 1
        except Exception as error:  # as in `mirror`
            failures.append(f"{version}: {_reason(error)}")
            if not tracker.is_reachable():
                failures += ["MLflow became unreachable."] * (len(missing) - position - 1)
                break
    try:
        failures += _set_aliases(tracker, store)
    except Exception as error:  # as in `mirror`
        failures.append(f"aliases: {_reason(error)}")
    return MirrorReport(mirrored, len(failures), failures[0] if failures else "")


def _set_aliases(tracker: MlflowTracker, store: Store) -> list[str]:
    """Set the aliases as in the registry; returns a message for each that failed."""
    registry = read_registry(store)
    registered = tracker.registered_versions()
    failures = []
    for alias, pointer in (("production", registry.production), ("staging", registry.staging)):
        number = registered.get(pointer.version) if pointer else None
        if pointer and number is None:
            failures.append(f"{alias}: {pointer.version} is not registered in MLflow yet.")
        # No alias is safer than one that names another model than the live one.
        tracker.set_alias(alias, number)
    return failures
