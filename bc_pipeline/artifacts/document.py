"""The base of the documents, which are JSON files of a fixed format."""

from __future__ import annotations

import msgspec


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every JSON document on the volume: immutable, and decoded strictly."""
