"""The staging folder of a restore, and the renames that move its content into place.

It is inside the volume, so that a rename can do that. As long as it exists, the volume counts as
partly restored. From the first rename on it contains a mark, which only a restore that succeeds
removes: a later attempt that fails must not leave a partly restored volume in use.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from bc_pipeline.artifacts.files import make_directory, staged_file, sync_directory
from bc_pipeline.artifacts.store_format import RESTORING
from bc_pipeline.backup import contents
from bc_pipeline.clock import now

# In the staging folder, as soon as files are moved into place.
MARK = ".placing"
_MODE = 0o700
_SET_ASIDE = ".before-restore-"


def list_existing(root: Path) -> list[Path]:
    """Content of a folder, without hidden files, empty folders and empty mounts."""
    try:
        paths = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
    return [path for path in paths if not path.is_dir() or _has_files(path)]


def _has_files(folder: Path) -> bool:
    return any(not name.startswith(".") for _, _, names in os.walk(folder) for name in names)


def begin(root: Path) -> None:
    """Make an empty staging folder, also where an earlier attempt has left one.

    Its mark stays: the volume is partly restored until this attempt succeeds.
    """
    folder = make_directory(root) / RESTORING
    if folder.is_symlink():
        folder.unlink()
    _clear(folder)
    folder.mkdir(mode=_MODE, exist_ok=True)
    sync_directory(root)


def mark(root: Path) -> None:
    (root / RESTORING / MARK).touch()
    sync_directory(root / RESTORING)


def discard(root: Path) -> None:
    """Empty the staging folder, and remove it unless an earlier attempt has marked it."""
    folder = root / RESTORING
    # If it cannot be emptied, commands continue to refuse the volume.
    with suppress(OSError):
        _clear(folder)
        if not (folder / MARK).exists():
            folder.rmdir()


def _clear(folder: Path) -> None:
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


def move_into_place(root: Path, existing: list[Path]) -> Path | None:
    """Rename staged files to their names in the folder; models last.

    Parameters
    ----------
    existing : list of Path
        Former content, which is moved to a folder of its own before.

    Returns
    -------
    Path or None
        The folder with the former content, if there was any.
    """
    former = None
    if existing:
        former = make_directory(root / f"{_SET_ASIDE}{now():%Y%m%dT%H%M%SZ}")
        for path in existing:
            _move(path, former / path.name)
    staged = (path for path in (root / RESTORING).iterdir() if path.name != MARK)
    for path in sorted(staged, key=lambda path: path.name == contents.MODELS):
        _move(path, root / path.name)
        sync_directory(root)
    return former


def _move(source: Path, target: Path) -> None:
    """Rename a path. Mounts and existing folders are filled entry by entry, files last."""
    _remove_empty_folders(target)
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
        _remove_empty_folders(source)
    else:
        with staged_file(target) as staged:
            shutil.copy2(source, staged)
        source.unlink()


def _remove_empty_folders(top: Path) -> None:
    """Remove folders without content; mounts stay."""
    for folder, _, _ in os.walk(top, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()


def finish(root: Path) -> None:
    (root / RESTORING / MARK).unlink()
    (root / RESTORING).rmdir()
    sync_directory(root)
