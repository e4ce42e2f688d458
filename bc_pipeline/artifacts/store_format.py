"""Which format the volume as a whole is of: one small file, absent on stores of before it.

What stands on the volume has format numbers of its own: manifests, registries, batches. This
one counts changes of the layout, which no reader of a single file would notice.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.artifacts.files import locked, write_record
from bc_pipeline.errors import ArtifactCorrupt, StoreUnfit

STORE_FORMAT = 1
FILE = "store.json"
# Where a restore puts files until it has checked them all; it is gone once all are in place.
RESTORING = ".restore"
_FIRST = 1
_LOCK = ".store.lock"
# A volume on which none of them stands has never been used.
_AREAS = ("data", "models", "audit", "scores", "records")


class StoreFile(Record, frozen=True):
    """The format of ``store.json``."""

    format: int


class _Format(msgspec.Struct):
    format: int


def read_format(home: Path) -> int:
    """The volume's format; that of a volume without the file is 1.

    Raises
    ------
    ArtifactCorrupt
    """
    path = home / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Format).format
    except FileNotFoundError:
        return _FIRST
    except msgspec.MsgspecError as error:
        raise ArtifactCorrupt(
            f"{FILE} cannot be read: {error}.", "Restore it from a backup.", path=str(path)
        ) from None


def write_format(home: Path, number: int) -> None:
    write_record(home / FILE, StoreFile(number))


def require_whole(home: Path) -> None:
    """Refuse a volume that a restore has not finished.

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
    """The volume's format, if this release knows it.

    Raises
    ------
    StoreUnfit
        Also where a restore was cut short.
    ArtifactCorrupt
    """
    require_whole(home)
    found = read_format(home)
    if found > known:
        raise StoreUnfit(
            f"The volume {home} has format {found}; this release reads up to format {known}.",
            "Use the release that made it, or a later one.",
            found=found,
            known=known,
        )
    return found


def require_store(home: Path, known: int = STORE_FORMAT) -> None:
    """Refuse a volume that is not of this release's format.

    Raises
    ------
    StoreUnfit
    ArtifactCorrupt
    """
    found = require_not_newer(home, known)
    if found < known and not is_unused(home):
        raise StoreUnfit(
            f"The volume {home} has format {found}; this release uses format {known}.",
            "Take a backup, stop what runs on it, and run `bc-pipeline upgrade`.",
            found=found,
            known=known,
        )


def claim_store(home: Path, known: int = STORE_FORMAT) -> None:
    """Write the format on a volume that has none, before anything else is; see `require_store`.

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
    """Whether nothing was ever put on the volume."""
    return not (home / FILE).exists() and not any((home / name).exists() for name in _AREAS)
