"""Which version a person means, and what the published versions are called in short."""

from __future__ import annotations

from bc_pipeline.artifacts import version_names
from bc_pipeline.artifacts.store import Store
from bc_pipeline.settings import Settings
from bc_pipeline.workspace import open_workspace


def resolve_version(settings: Settings, problem: str, text: str) -> str:
    """The full name of a version that is named in full or in short.

    Raises
    ------
    ConfigError, StoreUnfit
    VersionAmbiguous
    """
    return version_names.resolve_name(open_workspace(settings, problem).store, text)


def short_names(settings: Settings, problem: str) -> dict[str, str]:
    """Short names by full ones, of versions and of challengers without a verdict."""
    return version_names.shorten_names(version_names.list_names(Store.of(settings, problem)))
