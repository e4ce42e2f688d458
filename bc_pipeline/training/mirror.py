"""Keeping MLflow up with the volume.

The volume is the source of truth. MLflow is told afterwards, so that its being away can
neither fail nor undo a promotion, and is told again until it knows everything.
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
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import list_versions, open_stored, read_registry
from bc_pipeline.problems.base import Problem
from bc_pipeline.training.facts import PASSED, gather
from bc_pipeline.training.results import list_records
from bc_pipeline.training.tracking import Tracker

# What stands between the scheme of a URL and its host.
_CREDENTIALS = re.compile(r"(\w://)[^/\s]*@")


@dataclass(frozen=True)
class MirrorReport:
    """How far MLflow follows the volume after a call.

    Attributes
    ----------
    mirrored : int
        Versions that this call wrote.
    failed : int
        Versions and aliases that are still to be written; the next call tries again.
    reason : str
        Why, for the first of them.
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
    """Tell MLflow about every version that it lacks, and where the aliases point.

    Each version becomes a run with one child run per candidate; those that passed their
    gate are registered as model versions too. A version that was told only in part is
    deleted there and told anew. Never raises: what goes wrong is in the report.

    Parameters
    ----------
    problem : Problem
        Its name is that of the experiment and of the registered model.
    tracking_uri : str
        MLflow's server, or its database.
    verify_key : Path
        Public key that the versions' signatures are checked with.
    request_seconds : int
        How long one request may take, unless ``MLFLOW_HTTP_REQUEST_TIMEOUT`` says so.
    budget_seconds : float
        No further version is begun after this time.
    """
    began = time.monotonic()
    try:
        with _patience(request_seconds), locked(store.mirror_lock, timeout=request_seconds):
            tracker = Tracker(problem.name, problem.title, tracking_uri)
            report = _catch_up(tracker, store, verify_key, began + budget_seconds)
    except Exception as error:  # MLflow lets through whatever its database or transport raises
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


def _reason(error: Exception) -> str:
    """First line of what went wrong, without the password that a URL in it may hold.

    Transport errors repeat themselves over several lines, and quote the tracking URI.
    """
    line = (str(error).splitlines() or [""])[0]
    return _CREDENTIALS.sub(r"\1", line)[:300] or type(error).__name__


@contextmanager
def _patience(request_seconds: int) -> Iterator[None]:
    """Make MLflow's client give up early, and quiet; what the caller has set stands."""
    wanted = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(request_seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _catch_up(tracker: Tracker, store: Store, verify_key: Path, deadline: float) -> MirrorReport:
    """Write what is missing, oldest first; one bad version does not hold up the others."""
    complete, registered = tracker.complete(), tracker.registered()
    missing = [
        version
        for version in list_versions(store)
        if version not in complete or (complete[version] == PASSED and version not in registered)
    ]
    records = list_records(store) if missing else []
    mirrored = 0
    failures: list[str] = []
    for position, version in enumerate(missing):
        if time.monotonic() > deadline:
            failures += ["The time allowed ran out."] * (len(missing) - position)
            break
        try:
            tracker.write(gather(open_stored(store, version, verify_key), records))
            mirrored += 1
        except Exception as error:  # as in `mirror`
            failures.append(f"{version}: {_reason(error)}")
            if not tracker.answers():
                failures += ["MLflow went away."] * (len(missing) - position - 1)
                break
    try:
        failures += _point_aliases(tracker, store)
    except Exception as error:  # as in `mirror`
        failures.append(f"aliases: {_reason(error)}")
    return MirrorReport(mirrored, len(failures), failures[0] if failures else "")


def _point_aliases(tracker: Tracker, store: Store) -> list[str]:
    """Set the aliases as the registry has them; returns what could not be set."""
    registry = read_registry(store)
    registered = tracker.registered()
    failures = []
    for alias, pointer in (("production", registry.production), ("staging", registry.staging)):
        number = registered.get(pointer.version) if pointer else None
        if pointer and number is None:
            failures.append(f"{alias}: {pointer.version} is not registered in MLflow yet.")
        # Better no alias than one that names another model than the one that is live.
        tracker.point(alias, number)
    return failures
