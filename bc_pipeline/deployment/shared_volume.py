"""The shared volume of a deployment: its folders, their modes and owners."""

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

# The group reads the public key and the hashed API keys; others have no access.
KEYS_MODE = 0o2750


class Owner(NamedTuple):
    """Numeric user and group: names differ between images."""

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
                f"{text!r} is not an owner.", "Write it as two numbers, such as 50000:0.", "--owner"
            )
        return cls(int(user), int(group))


def folders(settings: Settings) -> Iterator[Path]:
    """List the folders of an empty volume."""
    for problem in PROBLEMS:
        store = Store.of(settings, problem.name)
        yield from (store.landing, store.worklist, store.versions, store.scores)
        yield store.audit.parent
    yield settings.home / "logs"


def create_folders(settings: Settings) -> None:
    """Create missing folders, and set the modes of existing ones.

    Raises
    ------
    OSError
        Where this user may not change them.
    """
    for folder in folders(settings):
        make_directory(folder)
        for path in (folder, *folder.parents):
            if path.is_relative_to(settings.home):
                _set_mode(path, DIRECTORY_MODE)
    _set_mode(make_directory(settings.home / "keys"), KEYS_MODE)


def _set_mode(folder: Path, mode: int) -> None:
    """Change the mode only where it differs: only the owner may change it."""
    if folder.stat().st_mode & 0o7777 != mode:
        folder.chmod(mode)


def change_owner(settings: Settings, owner: Owner) -> int:
    """Change the owner of everything on the volume but the service's prediction log.

    Returns
    -------
    int
        Number of changed entries.

    Raises
    ------
    OSError
        Where this user is not root.
    """
    records = settings.records_dir or settings.home / "records"
    changed = 0
    for folder, subfolders, files in os.walk(settings.home):
        here = Path(folder)
        subfolders[:] = [name for name in subfolders if here / name != records]
        for path in (here, *(here / name for name in files)):
            status = path.lstat()
            if (status.st_uid, status.st_gid) != owner:
                os.chown(path, *owner, follow_symlinks=False)
                # chown clears set-group-id where root lacks CAP_FSETID.
                if path == here:
                    _set_mode(path, status.st_mode & 0o7777)
                changed += 1
    return changed
