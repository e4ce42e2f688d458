"""What every step is given and needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.artifacts.manifest import DagCode
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import claim_store, require_store
from bc_pipeline.code import code_version
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings, load_settings

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
        ISO 8601, UTC: rows that had arrived by then count.
    interval_start, interval_end : str or None
        The data interval, where the run has one.
    live : bool
        False for a backfilled run: it leaves a verdict and moves no pointer.
    looks_back : bool
        True for a backfilled run: its data may be older than the champion's.
    dag : DagCode or None
        Which code of the DAG runs; None on the command line.
    """

    problem: str
    run_id: str
    as_of: str
    interval_start: str | None = None
    interval_end: str | None = None
    live: bool = True
    looks_back: bool = False
    dag: DagCode | None = None


class Origin(Record, frozen=True):
    """Which run made something, and which code it ran."""

    run_id: str
    code_version: str
    dag: DagCode | None


def origin_of(run: Run) -> Origin:
    return Origin(run.run_id, code_version(), run.dag)


@dataclass(frozen=True)
class Room:
    """Settings, problem and store of a run."""

    settings: Settings
    problem: Problem
    store: Store


def enter(problem: str) -> Room:
    """What the steps of a problem work with.

    Raises
    ------
    ConfigError
    StoreUnfit
        Where the volume is not of this release's format, or was restored in part only.
    """
    settings = load_settings()
    require_store(settings.home)
    return Room(settings, get_problem(problem), Store(settings.home, problem))


def enter_first(problem: str) -> Room:
    """As `enter`, for the steps that a volume begins with: the volume is told its format."""
    room = enter(problem)
    claim_store(room.settings.home)
    return room
