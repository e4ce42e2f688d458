"""The format number of the volume's layout, in ``store.json``; without the file it is 1.

Manifests, registries and batches have format numbers of their own. This one counts changes of
the layout, which a reader of a single file would not notice.
"""

from __future__ import annotations

from pathlib import Path

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import decode_format, locked, write_document
from bc_pipeline.errors import ConfigError, StoreUnfit

STORE_FORMAT = 2
# The first format with a signature beside each document.
SIGNED_FORMAT = 2
FILE = "store.json"
# Folder of a restore that is not finished; removed once every file is in its place.
RESTORING = ".restore"
_FIRST = 1
_LOCK = ".store.lock"
# Files that every use of the pipeline writes; a volume without any of them was never used.
_WRITTEN = (
    "data/*/batches/*.json",
    "data/*/validations/*.json",
    "models/*/registry.json",
    "models/*/*/*",
    "audit/*.jsonl",
    "scores/*/*",
)


class StoreFile(Document, frozen=True):
    """The format of ``store.json``."""

    format: int


def read_format(home: Path) -> int:
    """The volume's format; that of a volume without the file is 1.

    Raises
    ------
    ArtifactCorrupt
    """
    path = home / FILE
    try:
        return decode_format(path.read_bytes(), path)
    except FileNotFoundError:
        return _FIRST


def write_format(home: Path, number: int) -> None:
    write_document(home / FILE, StoreFile(number))


def require_whole(home: Path) -> None:
    """Refuse a volume with an unfinished restore.

    Raises
    ------
    StoreUnfit
    """
    if (home / RESTORING).exists():
        raise StoreUnfit(
            f"A restore into {home} is under way, or was cut short.",
            "Wait for it, or run it again with --replace.",
        )


def require_not_newer(home: Path, known: int = STORE_FORMAT) -> int:
    """The volume's format; a later one than this release knows is refused.

    Raises
    ------
    StoreUnfit
        Also where a restore is unfinished.
    ArtifactCorrupt
    """
    require_whole(home)
    number = read_format(home)
    if number > known:
        raise StoreUnfit(
            f"The volume {home} has format {number}; this release reads up to format {known}.",
            "Use the release that made it, or a later one.",
            found=number,
            known=known,
        )
    return number


def require_store(home: Path, known: int = STORE_FORMAT) -> None:
    """Refuse a volume that is not of this release's format.

    Raises
    ------
    StoreUnfit
    ArtifactCorrupt
    """
    number = require_not_newer(home, known)
    if number < known and not is_unused(home):
        raise StoreUnfit(
            f"The volume {home} has format {number}; this release uses format {known}.",
            "Take a backup, stop what runs on it, and run `bc-pipeline upgrade`.",
            found=number,
            known=known,
        )


def require_volume(home: Path) -> None:
    """Refuse a folder that no step ever wrote to, such as that of a mistyped ``BC_HOME``.

    Raises
    ------
    ConfigError
    """
    if is_unused(home):
        raise no_volume(home)


def no_volume(home: Path) -> ConfigError:
    """The error for a folder that is no volume."""
    found = "it has no file of one" if home.exists() else "the folder does not exist"
    return ConfigError(
        f"There is no volume in {home}: {found}.",
        "Correct BC_HOME, or make a volume there with `bc-pipeline up` or `bc-pipeline run`.",
        setting="BC_HOME",
    )


def claim_store(home: Path, known: int = STORE_FORMAT) -> None:
    """Check the format like `require_store`, and write it on a volume that has none.

    Raises
    ------
    StoreUnfit
    ArtifactCorrupt
    TransientError
    """
    require_store(home, known)
    if not (home / FILE).exists():
        with locked(home / _LOCK):
            require_store(home, known)
            if not (home / FILE).exists():
                write_format(home, known)


def is_unused(home: Path) -> bool:
    """Whether no step ever wrote to the volume; it may hold keys, landed files and predictions."""
    return not (home / FILE).exists() and not any(any(home.glob(pattern)) for pattern in _WRITTEN)
