"""The way of an older store to this release: the volume step by step, and the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bc_pipeline.artifacts.files import locked, make_directory
from bc_pipeline.artifacts.store_format import (
    STORE_FORMAT,
    claim_store,
    is_unused,
    require_not_newer,
    write_format,
)
from bc_pipeline.errors import StackError
from bc_pipeline.settings import Settings
from bc_pipeline.stack.state import load_state, supervisor_runs


@dataclass(frozen=True)
class Step:
    """What brings a volume from one format to the next.

    Attributes
    ----------
    title : str
        What it does, for people.
    apply : callable
        Does it. It may be killed and is then run again from its beginning, so it must find
        what an earlier try left; the format is written when it has returned.
    """

    title: str
    apply: Callable[[Settings], None]


# By the format that a step starts from: one for each format before `STORE_FORMAT`.
STEPS: Mapping[int, Step] = MappingProxyType({})


@dataclass(frozen=True)
class Upgrade:
    """What was done, or would be.

    Attributes
    ----------
    found, format : int
        The volume's format before and after.
    steps : tuple of str
        Titles of the steps of the volume.
    database_found, database : str or None
        Migration of the records database before and after; None where there is none.
    """

    found: int
    format: int
    steps: tuple[str, ...]
    database_found: str | None
    database: str | None


def upgrade(
    settings: Settings,
    *,
    dry_run: bool = False,
    known: int = STORE_FORMAT,
    steps: Mapping[int, Step] = STEPS,
) -> Upgrade:
    """Bring the volume and the records database up to this release; again changes nothing.

    Parameters
    ----------
    dry_run : bool
        Only tell.

    Raises
    ------
    StoreUnfit
        Where the volume is of a later release, or half restored.
    StackError
        Where the volume has to change and a stack runs on it.
    RecordsAway
    """
    found = _found(settings, known)
    titles = tuple(steps[number].title for number in range(found, known))
    if dry_run:
        before, after = _database(settings, dry_run=True)
        return Upgrade(found, known, titles, before, after)
    upgrade_volume(settings, known=known, steps=steps)
    before, after = _database(settings, dry_run=False)
    return Upgrade(found, known, titles, before, after)


def upgrade_volume(
    settings: Settings, *, known: int = STORE_FORMAT, steps: Mapping[int, Step] = STEPS
) -> None:
    """Bring the volume alone up to this release, or write the format of a new one.

    Raises
    ------
    StoreUnfit, StackError, TransientError
    """
    home = make_directory(settings.home)
    with locked(home / ".upgrade.lock"):
        for number in range(_found(settings, known), known):
            _require_stopped(settings)
            steps[number].apply(settings)
            write_format(home, number + 1)
    claim_store(home, known)


def _found(settings: Settings, known: int) -> int:
    found = require_not_newer(settings.home, known)
    return known if is_unused(settings.home) else found


def _require_stopped(settings: Settings) -> None:
    if supervisor_runs(load_state(settings)):
        raise StackError(
            "The stack runs on the volume that is to be upgraded.", "Stop it: `make down`."
        )


def _database(settings: Settings, *, dry_run: bool) -> tuple[str | None, str | None]:
    """Migration of the records database before and after."""
    from bc_pipeline.records.database import FILE_NAME, newest_migration, open_database

    if settings.records_url is None and not (settings.records / FILE_NAME).exists():
        return None, None
    database = open_database(settings)
    try:
        if not database.has_tables():
            return None, None
        before = database.revision()
        if not dry_run:
            database.migrate()
            return before, database.revision()
        return before, newest_migration()
    finally:
        database.close()
