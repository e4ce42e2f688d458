"""The run that a step belongs to, and the settings, problem and store that it works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.leftovers import remove_leftovers
from bc_pipeline.artifacts.manifest import DagCode
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import (
    claim_store,
    is_unused,
    require_store,
    require_volume,
)
from bc_pipeline.artifacts.versions import open_champion
from bc_pipeline.code_version import code_version
from bc_pipeline.errors import TransientError
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings

Result = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One pass through the workflow.

    Attributes
    ----------
    problem : str
    run_id : str
        Airflow's run id, or one that the command line makes.
    as_of : str
        ISO 8601, UTC: only rows that had arrived by then are used.
    interval_start, interval_end : str or None
        The data interval, where the run has one.
    live : bool
        False for a backfilled run: it writes a verdict and changes no champion.
    looks_back : bool
        True for a backfilled run: its data may be older than the champion's.
    dag : DagCode or None
        The code of the DAG; None on the command line.
    requires_approval : bool
        Whether a person must decide about the release, also where the problem does not require it.
    requested_by : str or None
        Who started the run; None for the schedule.
    """

    problem: str
    run_id: str
    as_of: str
    interval_start: str | None = None
    interval_end: str | None = None
    live: bool = True
    looks_back: bool = False
    dag: DagCode | None = None
    requires_approval: bool = False
    requested_by: str | None = None


class Origin(Document, frozen=True):
    """The run that made a document, and the code that it ran."""

    run_id: str
    code_version: str
    dag: DagCode | None


def origin_of(run: Run) -> Origin:
    return Origin(run.run_id, code_version(), run.dag)


@dataclass(frozen=True)
class Workspace:
    """Settings, problem and store of a run."""

    settings: Settings
    problem: Problem
    store: Store

    def open_champion(self) -> VersionFiles:
        """Open the version in production; errors as of `versions.open_champion`."""
        settings = self.settings
        return open_champion(self.store, settings.verify_key, settings.artifact_cipher())


def open_workspace(settings: Settings, problem: str) -> Workspace:
    """Open a problem's store.

    Raises
    ------
    ConfigError
        Also where there is no volume.
    StoreUnfit
        Where the volume is not of this release's format, or was restored in part only.
    """
    get_problem(problem)
    require_volume(settings.home)
    return _open(settings, problem)


def open_first_workspace(settings: Settings, problem: str) -> Workspace:
    """As `open_workspace`, for first steps: a new volume gets its format, and keys of its own.

    Where a setting names a key, none is made.
    """
    workspace = _open(settings, problem)
    if is_unused(settings.home) and not (settings.signing_key_file or settings.verify_key_file):
        signing.make_keys(settings.signing_key, settings.verify_key)
    _remove_leftovers(workspace.store)
    claim_store(settings.home)
    return workspace


def _open(settings: Settings, problem: str) -> Workspace:
    require_store(settings.home)
    return Workspace(settings, get_problem(problem), Store.of(settings, problem))


def _remove_leftovers(store: Store) -> None:
    """Remove the temporary files of killed runs; one process at a time, others pass on."""
    try:
        with locked(store.lock(store.data), timeout=0.0):
            removed = remove_leftovers(store.written_folders)
    except TransientError:
        return
    if removed:
        structlog.get_logger().info(
            "leftovers_removed",
            problem=store.problem,
            files=[store.relative(path) for path in removed],
        )
