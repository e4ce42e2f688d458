"""A PostgreSQL server for the tests of what stands in a database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.records.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()
