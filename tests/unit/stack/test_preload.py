from __future__ import annotations

import sys

import pytest

from bc_pipeline.stack import preload

LIBRARY = "colorsys"


@pytest.mark.parametrize(
    ("command", "executor", "loads"),
    [
        (["scheduler"], "LocalExecutor", True),
        (["scheduler"], "CeleryExecutor", False),
        (["celery", "worker", "--concurrency", "2"], "CeleryExecutor", True),
        (["celery", "flower"], "CeleryExecutor", False),
        (["api-server"], "LocalExecutor", False),
    ],
)
def test_only_parents_of_tasks_load_the_libraries(
    monkeypatch: pytest.MonkeyPatch, command: list[str], executor: str, loads: bool
) -> None:
    monkeypatch.setattr(preload, "LIBRARIES", (LIBRARY,))
    monkeypatch.setattr(sys, "argv", ["airflow", *command])
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    monkeypatch.delitem(sys.modules, LIBRARY, raising=False)
    preload.preload()
    assert (LIBRARY in sys.modules) == loads
