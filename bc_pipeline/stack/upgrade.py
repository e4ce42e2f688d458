"""Upgrade the volume, format by format, and the records database to this release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
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
from bc_pipeline.stack.sign_volume import Refused, SigningReport, sign_earlier_volume, sign_volume
from bc_pipeline.stack.state import is_supervisor_running, load_state


@dataclass(frozen=True)
class Step:
    """An upgrade of the volume from one format to the next.

    Attributes
    ----------
    title : str
        Description for people.
    apply : callable
        Must be idempotent: after a kill it runs again from its beginning. The new format is
        written once it has returned.
    """

    title: str
    apply: Callable[[Settings], None]


_SIGN = Step("sign every document, after checking it", sign_earlier_volume)
# Steps by the format that they start from; one for each format before `STORE_FORMAT`.
STEPS: Mapping[int, Step] = MappingProxyType({1: _SIGN})


@dataclass(frozen=True)
class Upgrade:
    """Steps that an upgrade took, or would take.

    Attributes
    ----------
    found, format : int
        The volume's format before and after.
    steps : tuple of str
        Titles of the steps of the volume.
    database_found, database : str or None
        Revision of the records database before and after; None without a database.
    signed : tuple of str
        Files that were signed, or would be.
    refused : tuple of Refused
        Files that would not be signed.
    """

    found: int
    format: int
    steps: tuple[str, ...]
    database_found: str | None
    database: str | None
    signed: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()


def upgrade(
    settings: Settings,
    *,
    dry_run: bool = False,
    known: int = STORE_FORMAT,
    steps: Mapping[int, Step] = STEPS,
) -> Upgrade:
    """Upgrade the volume and the records database to this release; idempotent.

    Parameters
    ----------
    dry_run : bool
        Only report what would be done.

    Raises
    ------
    StoreUnfit
        Where the volume is of a later release, or was restored in part only.
    StackError
        Where the volume must change while a stack runs on it.
    RecordsAway
    """
    current = _current_format(settings, known)
    titles = tuple(steps[number].title for number in range(current, known))
    signing = SigningReport((), ())
    if any(steps[number] is _SIGN for number in range(current, known)):
        signing = sign_volume(settings, dry_run=True)
    if not dry_run:
        upgrade_volume(settings, known=known, steps=steps)
    before, after = _database(settings, dry_run=dry_run)
    return Upgrade(current, known, titles, before, after, signing.signed, signing.refused)


def upgrade_volume(
    settings: Settings, *, known: int = STORE_FORMAT, steps: Mapping[int, Step] = STEPS
) -> None:
    """Upgrade the volume, or write the format of a new one.

    Raises
    ------
    StoreUnfit, StackError, TransientError
    """
    home = make_directory(settings.home)
    with locked(home / ".upgrade.lock"):
        for number in range(_current_format(settings, known), known):
            _require_stopped(settings)
            steps[number].apply(settings)
            write_format(home, number + 1)
    claim_store(home, known)


def _current_format(settings: Settings, known: int) -> int:
    number = require_not_newer(settings.home, known)
    return known if is_unused(settings.home) else number


def _require_stopped(settings: Settings) -> None:
    if is_supervisor_running(load_state(settings)):
        raise StackError("The stack is running on the volume to upgrade.", "Stop it: `make down`.")


def _database(settings: Settings, *, dry_run: bool) -> tuple[str | None, str | None]:
    """Migrate the records database; return its revision before and after."""
    from bc_pipeline.prediction_log.database import FILE_NAME, newest_migration, open_database

    if settings.records_url is None and not (settings.records / FILE_NAME).exists():
        return None, None
    with closing(open_database(settings)) as database:
        if not database.has_tables():
            return None, None
        before = database.revision()
        if not dry_run:
            database.migrate()
            return before, database.revision()
        return before, newest_migration()
