"""The volume of a deployment: folders that Airflow's side writes and the service's side reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bc_pipeline.artifacts.files import DIRECTORY_MODE, make_directory
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import ConfigError
from bc_pipeline.problems import PROBLEMS
from bc_pipeline.settings import Settings

# The group reads the public key and the hashed keys there; nobody else needs to look.
KEYS_MODE = 0o2750


class Owner(NamedTuple):
    """Numbers, as names differ from image to image."""

    user: int
    group: int

    @classmethod
    def parse(cls, text: str) -> Owner:
        """Read ``user:group``.

        Raises
        ------
        ConfigError
        """
        user, _, group = text.partition(":")
        if not (user.isascii() and user.isdigit() and group.isascii() and group.isdigit()):
            raise ConfigError(
                f"{text!r} is no owner.", "Write it as two numbers, such as 50000:0.", "--owner"
            )
        return cls(int(user), int(group))


def folders(settings: Settings) -> Iterator[Path]:
    """What stands on a volume before anything was written to it."""
    for problem in PROBLEMS:
        store = Store(settings.home, problem.name)
        yield from (store.landing, store.worklist, store.versions, store.scores)
        yield store.audit.parent
    yield settings.home / "logs"


def make_folders(settings: Settings) -> None:
    """Make the folders that are missing, and give the group its rights on those there are.

    Raises
    ------
    OSError
        Where this user may not.
    """
    for folder in folders(settings):
        make_directory(folder)
    keys = make_directory(settings.home / "keys")
    _set_mode(keys, KEYS_MODE)
    for folder in (settings.home, *_below(settings.home, folders(settings))):
        _set_mode(folder, DIRECTORY_MODE)


def _below(home: Path, wanted: Iterator[Path]) -> set[Path]:
    """The folders, with those between them and the volume's root."""
    return {folder for path in wanted for folder in (path, *path.parents) if home in folder.parents}


def _set_mode(folder: Path, mode: int) -> None:
    """Only where it differs: who does not own the folder may use it all the same."""
    if folder.stat().st_mode & 0o7777 != mode:
        folder.chmod(mode)


def give(settings: Settings, owner: Owner) -> int:
    """Let everything on the volume belong to an owner, but the service's own records.

    Returns
    -------
    int
        How many entries belonged to somebody else.

    Raises
    ------
    OSError
        Where this user may not: only root may give files away.
    """
    records = settings.records_dir or settings.home / "records"
    changed = 0
    for folder, subfolders, files in os.walk(settings.home):
        here = Path(folder)
        subfolders[:] = [name for name in subfolders if here / name != records]
        for path in (here, *(here / name for name in files)):
            found = path.lstat()
            if (found.st_uid, found.st_gid) != owner:
                os.chown(path, *owner, follow_symlinks=False)
                # Changing the owner takes set-group-id away where root has not all its rights.
                if path == here:
                    _set_mode(path, found.st_mode & 0o7777)
                changed += 1
    return changed
