"""Reads, verifies and writes the registry: the signed file that names a problem's champion."""

from __future__ import annotations

from dataclasses import dataclass

from bc_pipeline.artifacts.files import decode_document
from bc_pipeline.artifacts.manifest import REGISTRY_FORMAT, Registry
from bc_pipeline.artifacts.signed_document import (
    read_with_signature,
    remove_signatures,
    write_signed_document,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import ArtifactCorrupt, NotStored

_REMEDY = (
    "Run `bc-pipeline registry --repair`, which makes it again from the audit log; where an "
    "earlier release wrote it, `bc-pipeline upgrade`."
)


@dataclass(frozen=True)
class SignedRegistry:
    """A registry, with the bytes and signature that it was read from; empty without a file."""

    registry: Registry
    data: bytes = b""
    signature: bytes = b""


def read_registry(store: Store) -> Registry:
    """The registry; generation 0 where nothing was ever promoted.

    Raises
    ------
    SignatureInvalid
    ArtifactCorrupt
        Where the file is not a registry of this problem that this code can read.
    """
    return read_signed_registry(store).registry


def read_signed_registry(store: Store) -> SignedRegistry:
    """Read the registry and verify its signature; errors as of `read_registry`."""
    try:
        data, signature = read_with_signature(store, store.registry, _REMEDY)
    except NotStored:
        return SignedRegistry(Registry(problem=store.problem, generation=0))
    return SignedRegistry(decode_registry(store, data), data, signature)


def read_unsigned_registry(store: Store) -> Registry:
    """The registry of a volume of format 1, which has no signature.

    Raises
    ------
    ArtifactCorrupt
    """
    try:
        return decode_registry(store, store.registry.read_bytes())
    except FileNotFoundError:
        return Registry(problem=store.problem, generation=0)


def decode_registry(store: Store, data: bytes) -> Registry:
    """Decode a problem's registry.

    Raises
    ------
    ArtifactCorrupt
    """
    registry = decode_document(data, Registry, store.registry, REGISTRY_FORMAT)
    if registry.problem != store.problem:
        raise ArtifactCorrupt(
            f"The registry of {store.problem} is that of {registry.problem}.",
            path=str(store.registry),
        )
    return registry


def write_registry(store: Store, registry: Registry) -> None:
    """Replace the registry and sign it; the caller has the registry's lock."""
    try:
        before = store.registry.read_bytes()
    except FileNotFoundError:
        before = b""
    after = write_signed_document(store, store.registry, registry)
    # A reader may have read the bytes of before, and not yet their signature.
    remove_signatures(store.registry, keep=(before, after))
