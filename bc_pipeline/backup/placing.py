"""The folder that a restore writes to, and the renames that put what is in it in place.

It stands inside of the volume, so that a rename does. As long as it is there the volume counts
as half restored. From the first rename on it bears a mark, which only a restore that ends takes
away: a later try that fails must not make half a volume pass for a whole one.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bc_pipeline.artifacts.files import make_directory, staged_file, sync_directory
from bc_pipeline.artifacts.store_format import RESTORING
from bc_pipeline.backup import contents
from bc_pipeline.clock import now

# In the folder, once files are put in place.
MARK = ".placing"
_MODE = 0o700
_SET_ASIDE = ".before-restore-"


def standing(top: Path) -> list[Path]:
    """What stands in a folder; hidden files, empty folders and empty mounts do not count."""
    try:
        found = sorted(path for path in top.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
    return [path for path in found if not path.is_dir() or _holds_files(path)]


def _holds_files(folder: Path) -> bool:
    return any(not name.startswith(".") for _, _, names in os.walk(folder) for name in names)


def begin(top: Path) -> None:
    """An empty folder to restore into, where an earlier try may have left one.

    Its mark stays: what that try put in place is half a volume until this one has ended.
    """
    folder = make_directory(top) / RESTORING
    if folder.is_symlink():
        folder.unlink()
    _clear(folder)
    folder.mkdir(mode=_MODE, exist_ok=True)
    sync_directory(top)


def mark(top: Path) -> None:
    (top / RESTORING / MARK).touch()
    sync_directory(top / RESTORING)


def give_up(top: Path) -> None:
    """Leave the folder as it was found: not at all, where nothing is half restored."""
    folder = top / RESTORING
    # Where it cannot be emptied the volume stays refused.
    with suppress(OSError):
        _clear(folder)
        if not (folder / MARK).exists():
            folder.rmdir()


def _clear(folder: Path) -> None:
    """Remove what an earlier try, or this one, has written aside."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


def put_in_place(top: Path, before: list[Path]) -> Iterator[Path]:
    """Rename what was staged in a folder to its names there; models last.

    Parameters
    ----------
    before : list of Path
        What stood there, and is set aside.

    Yields
    ------
    Path
        The folder that what stood there before was moved to, if any.
    """
    if before:
        aside = make_directory(top / f"{_SET_ASIDE}{now():%Y%m%dT%H%M%SZ}")
        for path in before:
            _move(path, aside / path.name)
        yield aside
    staged = (path for path in (top / RESTORING).iterdir() if path.name != MARK)
    for path in sorted(staged, key=lambda path: path.name == contents.MODELS):
        _move(path, top / path.name)
        sync_directory(top)


def _move(source: Path, target: Path) -> None:
    """Rename; around mounts, and into folders that are there, one by one, files last."""
    _prune(target)
    if not target.exists():
        try:
            source.rename(target)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
        else:
            return
    if source.is_dir():
        make_directory(target)
        for path in sorted(source.iterdir(), key=lambda path: (not path.is_dir(), path.name)):
            _move(path, target / path.name)
        sync_directory(target)
        _prune(source)
    else:
        with staged_file(target) as staged:
            shutil.copy2(source, staged)
        source.unlink()


def _prune(top: Path) -> None:
    """Remove folders in which nothing stands; mounts stay."""
    for folder, _, _ in os.walk(top, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()


def end(top: Path) -> None:
    (top / RESTORING / MARK).unlink()
    (top / RESTORING).rmdir()
    sync_directory(top)
