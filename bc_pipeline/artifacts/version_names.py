"""Short names of versions, as git abbreviates commits, and what a person means by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import VersionAmbiguous

# Digits of the digest at the end of a name: so many are shown, and so many have to be given.
SHOWN = 7
LEAST = 4
_LISTED = 10


def list_names(store: Store) -> list[str]:
    """Names of the versions and of the challengers without a verdict; nothing is opened."""
    names = {*_folders(store.versions), *_folders(store.work)}
    return sorted(names)


def _folders(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return []


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """The short name of each: the start of its digest, as long as it has to be to be unique."""
    return {name: _shorten(name, names) for name in names}


def _shorten(name: str, names: Sequence[str]) -> str:
    digest = digest_of(name)
    for length in range(SHOWN, len(digest) + 1):
        if matching_names(names, digest[:length]) == [name]:
            return digest[:length]
    return name


def digest_of(name: str) -> str:
    """``3f2a9c1b7d`` of ``20261115T000000Z-logistic-3f2a9c1b7d``."""
    return name.rpartition("-")[2]


def matching_names(names: Sequence[str], text: str) -> list[str]:
    """The names that start with a text, or whose digest does."""
    return [name for name in names if name.startswith(text) or digest_of(name).startswith(text)]


def resolve_name(store: Store, text: str) -> str:
    """The full name of the version that a person named in full or in short.

    A text that is the beginning of no name is returned as it is: who opens it says why it is not
    there.

    Raises
    ------
    VersionAmbiguous
    """
    names = list_names(store)
    if text in names or not text:
        return text
    matches = matching_names(names, text)
    if matches and len(text) < LEAST:
        raise VersionAmbiguous(
            f"{text} is too short for a version.",
            f"Give at least {LEAST} characters of the name or of its digest.",
            version=text,
            candidates=tuple(matches),
        )
    if len(matches) > 1:
        more = f" and {len(matches) - _LISTED} more" if len(matches) > _LISTED else ""
        raise VersionAmbiguous(
            f"{text} may be {', '.join(matches[:_LISTED])}{more}.",
            "Give more of the name.",
            version=text,
            candidates=tuple(matches),
        )
    return matches[0] if matches else text
