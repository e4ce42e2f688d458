"""Fixtures that every level shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bc_pipeline.artifacts.store import Store
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the caller's settings or writes to the caller's volume."""
    import os

    for name in [name for name in os.environ if name.startswith("BC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BC_HOME", str(tmp_path / "home"))
    return


@pytest.fixture
def settings(clean_environment: None) -> Settings:
    return Settings()


@pytest.fixture(scope="session")
def wdbc() -> Problem:
    return get_problem("wdbc")


@pytest.fixture(scope="session")
def reference(wdbc: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Values, shape (569, 30), and scikit-learn's codes, shape (569,)."""
    loaded = wdbc.load_reference()
    return loaded.values, loaded.codes


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.home, "wdbc")
