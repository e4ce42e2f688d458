"""Keys of backups, as age-keygen makes them."""

from __future__ import annotations

from pathlib import Path

from pyrage.x25519 import Identity


def make_key(path: Path) -> str:
    """Write an identity file and return its recipient."""
    identity = Identity.generate()
    path.write_text(f"# public key: {identity.to_public()}\n{identity}\n")
    return str(identity.to_public())


def recipient_of(path: Path) -> str:
    """The recipient that the first line of an identity file names."""
    return path.read_text().splitlines()[0].rpartition(" ")[2]
