"""Refuses a registry that is older than one already served, also after a restart.

Anyone who can write to the shared volume could put an old, validly signed registry back, and
with it a champion that was replaced for a reason. So the service keeps, in a folder of its own,
the registry with the highest generation that it served, and refuses earlier ones. A rollback
is a new generation and passes.

What is stored is the signed registry itself, which the service can verify and not make: a file
that was edited, or that the key of now did not sign, counts as none, and locks no release out.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

import structlog

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import (
    decode_document,
    locked,
    sha256_bytes,
    write_document,
)
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import SignedRegistry, decode_registry
from bc_pipeline.artifacts.signed_document import verify_signature
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import (
    ArtifactCorrupt,
    GenerationReplayed,
    SignatureInvalid,
    TransientError,
)

FILE = "served_registry.json"
FORMAT = 1
_LOCK_SECONDS = 5.0


class ServedRegistry(Document, frozen=True, kw_only=True):
    """The registry of the highest generation served; the format of ``served_registry.json``.

    Attributes
    ----------
    registry : str
        Text of ``registry.json``.
    signature : str
        Of that text, in base64.
    """

    format: int = FORMAT
    registry: str
    signature: str


@dataclass(frozen=True)
class ServedGeneration:
    """A generation of the registry that was served.

    Attributes
    ----------
    version, manifest_sha256 : str or None
        None where that generation had no champion.
    """

    generation: int
    version: str | None
    manifest_sha256: str | None


def read_last_served(store: Store, path: Path) -> ServedGeneration | None:
    """Read and verify the stored registry; None where there is no file.

    Raises
    ------
    SignatureInvalid
        Where its signature is not valid.
    ArtifactCorrupt
        Where the file cannot be read: it may have held any generation.
    """
    try:
        served = decode_document(path.read_bytes(), ServedRegistry, path, FORMAT)
        data = served.registry.encode()
        signature = base64.b64decode(served.signature, validate=True)
    except FileNotFoundError:
        return None
    except (OSError, ArtifactCorrupt, binascii.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ArtifactCorrupt(
            f"{path.name} does not say which generation was served last: {why}",
            f"Check that registry.json is the newest one, delete {path}, restart the service.",
            path=str(path),
        ) from None
    try:
        verify_signature(store, store.registry, sha256_bytes(data), signature)
    except SignatureInvalid:
        raise SignatureInvalid(
            f"The registry in {path.name} does not bear a valid signature.",
            f"It counts for nothing; the next release replaces it, or delete {path}.",
            path=str(path),
        ) from None
    return _generation_of(decode_registry(store, data))


def require_not_replayed(
    registry: Registry, last_served: ServedGeneration | None, path: Path
) -> None:
    """Refuse an earlier generation, and other content under the same generation.

    Raises
    ------
    GenerationReplayed
    """
    if last_served is None or registry.generation > last_served.generation:
        return
    current = _generation_of(registry)
    if current == last_served:
        return
    raise GenerationReplayed(
        f"The registry has generation {current.generation}, and generation "
        f"{last_served.generation} was served already."
        if current.generation < last_served.generation
        else f"Generation {current.generation} was served with {last_served.version}, and now "
        f"names {current.version}, or other bytes of it.",
        f"If an older backup was restored on purpose, delete {path} and restart the service; "
        "else restore the newest registry.json.",
        served=last_served.generation,
        found=current.generation,
    )


def _generation_of(registry: Registry) -> ServedGeneration:
    production = registry.production
    return ServedGeneration(
        generation=registry.generation,
        version=production.version if production else None,
        manifest_sha256=production.manifest_sha256 if production else None,
    )


class ReplayGuard:
    """The highest generation served by this worker, or by one that shares its folder.

    Parameters
    ----------
    store : Store
        Its key verifies the stored registry.
    folder : Path
        The service's own, writable folder. While it cannot be written, the worker relies on
        its memory.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.path = folder / FILE
        self._store = store
        self._lock = folder / f".{FILE}.lock"
        self._stored: ServedGeneration | None = None
        self._highest: ServedGeneration | None = None
        self._warned = False
        self._ignores_file = False

    def read(self) -> ServedGeneration | None:
        """The highest generation known, from the file or from memory.

        Raises
        ------
        ArtifactCorrupt
        """
        self._stored = self._read_file()
        self._remember(self._stored)
        return self._highest

    def record(self, signed: SignedRegistry) -> None:
        """Keep a registry that is served, unless a higher generation is stored.

        Raises
        ------
        GenerationReplayed
            Where another worker already served other content of the same generation.
        ArtifactCorrupt
        """
        served = _generation_of(signed.registry)
        # Generation 0: nothing was ever promoted, and there need not be a registry.
        if served.generation > 0 and not self._is_stored(served):
            try:
                with locked(self._lock, timeout=_LOCK_SECONDS):
                    self._stored = self._read_file()
                    if self._stored and self._stored.generation == served.generation:
                        require_not_replayed(signed.registry, self._stored, self.path)
                    if not self._is_stored(served):
                        write_document(self.path, _document(signed))
                        self._stored = served
            except (OSError, TransientError) as error:
                if not self._warned:
                    structlog.get_logger().warning(
                        "generation_not_recorded", reason=type(error).__name__
                    )
                self._warned = True
        self._remember(served)

    def _read_file(self) -> ServedGeneration | None:
        """The stored generation; None also where its signature is not valid, with a warning."""
        try:
            stored = read_last_served(self._store, self.path)
        except SignatureInvalid as error:
            if not self._ignores_file:
                structlog.get_logger().warning("served_registry_ignored", reason=error.message)
            self._ignores_file = True
            return None
        self._ignores_file = False
        return stored

    def _remember(self, served: ServedGeneration | None) -> None:
        highest = self._highest.generation if self._highest else 0
        if served and served.generation > highest:
            self._highest = served

    def _is_stored(self, served: ServedGeneration) -> bool:
        return self._stored is not None and self._stored.generation >= served.generation


def _document(signed: SignedRegistry) -> ServedRegistry:
    return ServedRegistry(
        registry=signed.data.decode(), signature=base64.b64encode(signed.signature).decode()
    )
