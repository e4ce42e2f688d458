"""Serve the version in one folder, whatever the registry says: for its smoke test."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from bc_pipeline.artifacts.versions import open_version
from bc_pipeline.serving.model.live import Live, Refusal, prepare
from bc_pipeline.settings import Settings


class PinnedModel:
    """In place of `LiveModel`: a model that was loaded at start, and stays."""

    refusals = 0
    last_refusal: Refusal | None = None
    checked_at: datetime | None = None

    def __init__(self, live: Live) -> None:
        self.current: Live | None = live
        self.refusals_by_code: dict[str, int] = {}

    def refresh(self) -> None:
        """Nothing to look at."""

    async def watch(self) -> None:
        """Nothing to wait for."""


def load_folder(folder: Path, settings: Settings) -> Live:
    """Load the signed version in a folder; it need not be published.

    Raises
    ------
    StoreError
        Where it is not signed, or bytes differ from their digests, or do not decrypt.
    SchemaMismatch
        Where its schema contradicts itself.
    ModelError
        Where the model does not run.
    ConfigError
        Where the key to verify or to decrypt it with is missing.
    """
    files = open_version(folder, settings.verify_key, settings.artifact_cipher())
    return prepare(files, settings.service_problem, settings.threads, source="folder", generation=0)
