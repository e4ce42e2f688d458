"""Fixtures that several rooms' tests share: a PostgreSQL server and an API key."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from bc_pipeline.auth.api_keys import import_key
from bc_pipeline.settings import Settings
from tests.postgres import Postgres, running_postgres

KEY = "test-key-of-the-unit-tests"


@pytest.fixture(autouse=True, scope="session")
def no_sync() -> Iterator[None]:
    """No unit test cuts the power: waiting for the disk would only slow them down."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def api_key(settings: Settings) -> str:
    """A key with every scope."""
    import_key(settings.service_keys, "tests", ["admin"], KEY)
    return KEY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start the PostgreSQL server."""
    for item in items:
        if any("postgres" in name for name in getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgresql)
