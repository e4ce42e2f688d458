"""Databases of both kinds, and records to put into them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bc_pipeline.prediction_log.database import Database, open_database
from bc_pipeline.prediction_log.entry import LogEntry, new_id
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.settings import Settings

SampleEntry = Callable[..., LogEntry]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def log_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings whose database is empty, of each kind."""
    found: dict[str, Any] = {"home": tmp_path / "home"}
    if request.param == "postgresql":
        found["records_url"] = request.getfixturevalue("postgres").emptied()
    settings = Settings(**found)
    yield settings
    open_database(settings).close()


@pytest.fixture
def database(log_settings: Settings) -> Database:
    found = open_database(log_settings)
    found.migrate()
    return found


@pytest.fixture
def entry() -> SampleEntry:
    """Makes entries; keywords change their fields."""
    values = np.linspace(1.0, 2.0, 30)

    def make(**changes: Any) -> LogEntry:
        found: dict[str, Any] = {
            "id": new_id(),
            "at": time.time(),
            "version": "20260601T000000Z-logistic-3f2a9c1b7d",
            "manifest_sha256": "ab" * 32,
            "probability": 0.75,
            "positive": True,
            "latency": 0.0004,
            "caller": "ward",
            "route": "/v1/predict",
            "values": values.astype("<f8").tobytes(),
            "sample_id": None,
        }
        return LogEntry(**(found | changes))

    return make


@pytest.fixture
def spool_of() -> Iterator[Callable[..., Spool]]:
    """Opens logs, and closes them in the end."""
    opened = []

    def make(settings: Settings, name: str = "worker-0") -> Spool:
        opened.append(Spool.open(settings, name))
        return opened[-1]

    yield make
    for spool in opened:
        spool.close()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "records.key"
    path.write_text(os.urandom(32).hex())
    return path
