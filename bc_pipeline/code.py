"""Which code ran: part of a version's name, so that other code gives another version."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from bc_pipeline import __version__


@cache
def code_version() -> str:
    """Package version and a digest of the package's sources, such as ``0.1.0+3f2a9c1b``.

    It does not need git, so a wheel and an image give what their checkout gives.
    """
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:8]}"
