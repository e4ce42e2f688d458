"""The highest generation of the registry that was served, kept across restarts.

The registry is not signed: who can write to the shared volume could put an old one back, and
with it a champion that was replaced for a reason. So the service remembers, in a folder of
its own, how far it has come, and takes nothing from before. A rollback is a new generation
and passes.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.artifacts.files import decode_record, locked, write_record
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.sealed import require_format
from bc_pipeline.errors import ArtifactCorrupt, GenerationReplayed, TransientError

FILE = "generation.json"
FORMAT = 1
_LOCK_SECONDS = 5.0


class Served(Record, frozen=True, kw_only=True):
    """What was served last; the format of ``generation.json``.

    Attributes
    ----------
    version, manifest_sha256 : str or None
        None where that generation had no champion.
    """

    format: int = FORMAT
    generation: int
    version: str | None
    manifest_sha256: str | None


def way_out(path: Path) -> str:
    """What to do where an older state is wanted."""
    return (
        f"If an older backup was restored on purpose, delete {path} and restart the service; "
        "else restore the newest registry.json."
    )


def read_served(path: Path) -> Served | None:
    """Read the file; None where nothing was ever served.

    Raises
    ------
    ArtifactCorrupt
        Where there is a file that cannot be read: it may have stood for any generation.
    """
    try:
        data = path.read_bytes()
        require_format(data, FORMAT, path)
        return decode_record(data, Served, path)
    except FileNotFoundError:
        return None
    except (OSError, ArtifactCorrupt) as error:
        why = error.strerror if isinstance(error, OSError) else error.message
        raise ArtifactCorrupt(
            f"What was served last cannot be told from {path.name}: {why}",
            f"See that registry.json is the newest one, delete {path}, restart the service.",
            path=str(path),
        ) from None


def require_not_older(registry: Registry, served: Served | None, path: Path) -> None:
    """Refuse what lies before what was served, and another content of the same generation.

    Raises
    ------
    GenerationReplayed
    """
    if served is None or registry.generation > served.generation:
        return
    found = _served_by(registry)
    if found == served:
        return
    what = (
        f"The registry has generation {found.generation}, and generation {served.generation} "
        "was served already."
        if found.generation < served.generation
        else f"Generation {found.generation} was served with {served.version}, and now names "
        f"{found.version}, or other bytes of it."
    )
    raise GenerationReplayed(what, way_out(path), served=served.generation, found=found.generation)


def _served_by(registry: Registry) -> Served:
    production = registry.production
    return Served(
        generation=registry.generation,
        version=production.version if production else None,
        manifest_sha256=production.manifest_sha256 if production else None,
    )


class Generations:
    """How far this worker, and every worker that shares its folder, has come.

    Parameters
    ----------
    folder : Path
        The service's own, writable folder. While it cannot be written, the worker goes by
        its own memory.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._lock = folder / f".{FILE}.lock"
        self._stored: Served | None = None
        self._seen: Served | None = None
        self._warned = False

    def read(self) -> Served | None:
        """The furthest that is known of; what was seen once is not forgotten.

        Raises
        ------
        ArtifactCorrupt
        """
        self._stored = read_served(self.path)
        self._see(self._stored)
        return self._seen

    def _see(self, served: Served | None) -> None:
        # Generation 0 is that nothing was ever promoted: a registry may well be missing then.
        known = self._seen.generation if self._seen else 0
        if served and served.generation > known:
            self._seen = served

    def keep(self, registry: Registry) -> None:
        """Remember a registry that is being served; what is stored only ever rises.

        Raises
        ------
        GenerationReplayed
            Where another worker came to serve another content of the same generation.
        ArtifactCorrupt
        """
        mine = _served_by(registry)
        if mine.generation > 0 and not self._holds(mine):
            try:
                with locked(self._lock, timeout=_LOCK_SECONDS):
                    self._stored = read_served(self.path)
                    if self._stored and self._stored.generation == mine.generation:
                        require_not_older(registry, self._stored, self.path)
                    if not self._holds(mine):
                        write_record(self.path, mine)
                        self._stored = mine
            except (OSError, TransientError) as error:
                if not self._warned:
                    structlog.get_logger().warning(
                        "generation_not_kept", reason=type(error).__name__
                    )
                self._warned = True
        self._see(mine)

    def _holds(self, mine: Served) -> bool:
        return self._stored is not None and self._stored.generation >= mine.generation
