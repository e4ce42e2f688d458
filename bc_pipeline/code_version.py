"""The version of the code, which is part of a model version's name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from bc_pipeline import __version__


@cache
def code_version() -> str:
    """Package version and a digest of the package's sources, such as ``0.1.0+3f2a9c1b``.

    It does not need git: a wheel and an image give the same as their checkout.
    """
    return f"{__version__}+{sources_digest(Path(__file__).parent)[:8]}"


def sources_digest(folder: Path, more: Iterable[Path] = ()) -> str:
    """SHA-256 over names and bytes of a folder's Python files, and of more files, by name."""
    sources = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    digest = hashlib.sha256()
    for name, path in [*sorted(sources.items()), *sorted((path.name, path) for path in more)]:
        digest.update(name.encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
