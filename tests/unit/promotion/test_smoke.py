from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bc_pipeline.artifacts.verdict import Smoke
from bc_pipeline.errors import ConfigError, TransientError
from bc_pipeline.promotion import smoke
from bc_pipeline.promotion.smoke import smoke_test

pytestmark = pytest.mark.integration

GOLDEN = 12


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that a test started; all must have ended with it."""
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        started.append(real(*arguments, **named))
        return started[-1]

    monkeypatch.setattr(smoke.subprocess, "Popen", popen)
    yield started
    for process in started:
        assert process.poll() is not None


@pytest.fixture
def folder(releases: Any, fitted: Any) -> Path:
    """A signed challenger."""
    return releases.challenger("v9", fitted[0])


@pytest.fixture
def run(releases: Any, fitted: Any, reference: Any) -> Any:
    def run(folder: Path, **changes: Any) -> Smoke:
        arguments = {
            "golden_values": reference[0][:GOLDEN],
            "golden_probability": fitted[0].probability[:GOLDEN],
            "latency_ms": 2000.0,
            "parity_bound": 1e-12,
        }
        return smoke_test(folder, releases.settings.verify_key, **(arguments | changes))

    return run


def test_a_sound_version_passes(run: Any, folder: Path, processes: list[Any]) -> None:
    result = run(folder)
    assert result.passed, result.reason
    assert (result.rows, result.reason) == (GOLDEN, "")
    assert result.worst_difference is not None
    assert result.worst_difference <= 1e-12
    assert result.median_ms is not None
    assert 0 < result.median_ms < 2000
    assert [process.returncode for process in processes] == [0]


def test_other_probabilities_and_calls_and_a_slow_answer_fail_together(
    run: Any, folder: Path, fitted: Any, processes: list[Any]
) -> None:
    golden = fitted[0].probability[:GOLDEN].copy()
    golden[3] = 1 - golden[3]
    result = run(folder, golden_probability=golden, latency_ms=1e-6)
    assert not result.passed
    assert "off by" in result.reason
    assert "1 of 12 calls are wrong" in result.reason
    assert "median" in result.reason


def test_golden_probabilities_that_are_nan_fail(
    run: Any, folder: Path, processes: list[Any]
) -> None:
    assert not run(folder, golden_probability=np.full(GOLDEN, np.nan)).passed


def test_a_row_on_the_threshold_may_fall_either_way(
    run: Any, releases: Any, fitted: Any, reference: Any, processes: list[Any]
) -> None:
    on = float(fitted[0].probability[0])
    result = run(
        releases.challenger("v9", fitted[0], threshold=on),
        golden_values=np.repeat(reference[0][:1], 2, axis=0),
        golden_probability=np.array([np.nextafter(on, 0), np.nextafter(on, 1)]),
    )
    assert result.passed, result.reason


def test_a_file_that_is_no_graph_fails_with_what_the_service_said(
    run: Any, releases: Any, fitted: Any, processes: list[Any]
) -> None:
    result = run(releases.challenger("v9", replace(fitted[0], graph=b"no graph")))
    assert not result.passed
    assert "ended with 2" in result.reason
    assert "ONNX" in result.reason


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "manifest.sig"])
def test_a_damaged_folder_fails(run: Any, folder: Path, processes: list[Any], name: str) -> None:
    (folder / name).write_bytes(b"{}")
    result = run(folder)
    assert not result.passed
    assert "sign" in result.reason


def test_a_missing_key_is_no_verdict_about_the_model(run: Any, folder: Path, releases: Any) -> None:
    releases.settings.verify_key.unlink()
    with pytest.raises(ConfigError):
        run(folder)


def test_a_refused_row_fails(run: Any, folder: Path, processes: list[Any]) -> None:
    values = np.full((GOLDEN, 30), 1e9)
    result = run(folder, golden_values=values)
    assert not result.passed
    assert "422" in result.reason


def test_no_golden_rows_fail(run: Any, folder: Path, processes: list[Any]) -> None:
    result = run(folder, golden_values=np.empty((0, 30)), golden_probability=np.empty(0))
    assert not result.passed


def test_a_service_that_does_not_start_in_time_is_ended_and_worth_another_try(
    run: Any, folder: Path, processes: list[Any]
) -> None:
    with pytest.raises(TransientError, match="in time"):
        run(folder, timeout=0.05)
    assert len(processes) == 1


def test_a_latency_above_the_bound_is_measured_again(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    medians = iter([1e9, 1e9, 2.0, 2.0])
    for module in ("smoke", "smoke_answers"):
        name = f"bc_pipeline.promotion.{module}.median_ms"
        monkeypatch.setattr(name, lambda _: next(medians))
    result = run(folder)
    assert result.passed
    assert result.median_ms == 2.0


def test_a_machine_that_starts_no_process_is_worth_another_try(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(smoke.subprocess, "Popen", refuse)
    with pytest.raises(TransientError):
        run(folder)
