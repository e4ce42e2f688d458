"""Smoke test: the service with the challenger's files, in a process of its own.

The service is started on a free port of the loopback interface, answers the golden rows, and
is ended in every case. If this process is killed, the service ends with its standard input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from bc_pipeline.artifacts.signed_bundle import open_version
from bc_pipeline.artifacts.verdict import Smoke
from bc_pipeline.auth.api_keys import create_key
from bc_pipeline.errors import SmokeTestFailed, StoreError, TransientError
from bc_pipeline.promotion.smoke_answers import (
    LOOPBACK,
    compare_answers,
    median_ms,
    request_answers,
)

if TYPE_CHECKING:
    import numpy as np

# Measurements repeated because of a latency above the bound.
_RETRIES = 2
_POLL_SECONDS = 0.05
_TERMINATE_SECONDS = 15.0


def smoke_test(
    folder: Path,
    verify_key: Path,
    *,
    golden_values: np.ndarray,
    golden_probability: np.ndarray,
    latency_ms: float,
    parity_bound: float,
    artifact_key: Path | None = None,
    timeout: float = 30.0,
) -> Smoke:
    """Start the service with an unpublished version, and compare its answers.

    Parameters
    ----------
    folder : Path
        The signed version.
    verify_key : Path
        The public key of its signature.
    golden_values : array of float64, shape (m, n_features)
        In schema order; within the physical ranges.
    golden_probability : array of float64, shape (m,)
        The estimator's probability of the positive class.
    latency_ms : float
        Largest median time of an answer, as the client sees it.
    parity_bound : float
        Largest difference of a probability.
    artifact_key : Path, optional
        File of the key, where the version is encrypted; the service decrypts it.
    timeout : float
        Seconds for the start and for all answers together.

    Returns
    -------
    Smoke
        Not passed, with the reason, for every error of the artifact or the service.

    Raises
    ------
    TransientError
        Where this machine cannot run the test: no process, no disk space, no answer in time.
    ConfigError
        Where the key is missing or invalid.
    """
    started = time.monotonic()
    rows = len(golden_values)
    try:
        manifest = open_version(folder, verify_key).manifest
        keys = {"BC_VERIFY_KEY_FILE": verify_key.absolute()}
        if artifact_key is not None:
            keys["BC_ARTIFACT_KEY_FILE"] = artifact_key.absolute()
        with _service(folder, keys, manifest.problem, started + timeout) as (port, key):
            for _ in range(1 + _RETRIES):
                answers = request_answers(port, key, manifest, golden_values, started + timeout)
                # A busy machine also answers late: only a repeated latency counts.
                if not answers or median_ms(answers) <= latency_ms:
                    break
    except (SmokeTestFailed, StoreError) as error:
        result = Smoke(False, rows, None, None, error.message)
    except OSError as error:
        raise TransientError(f"The smoke test could not run: {error}.", "Try again.") from error
    else:
        result = compare_answers(answers, manifest, golden_probability, latency_ms, parity_bound)
    structlog.get_logger().info(
        "smoke_test",
        folder=folder.name,
        passed=result.passed,
        rows=rows,
        median_ms=result.median_ms,
        reason=result.reason,
        seconds=round(time.monotonic() - started, 2),
    )
    return result


@contextmanager
def _service(
    folder: Path, keys: Mapping[str, Path], problem: str, deadline: float
) -> Iterator[tuple[int, str]]:
    """Run the service until the block ends; yields its port and an API key.

    `keys` are the settings that name key files.
    """
    with tempfile.TemporaryDirectory(prefix="bc-smoke-") as name:
        home = Path(name)
        key_store = home / "service_keys.json"
        key, _ = create_key(key_store, "smoke", ["predict"])
        output, log = home / "stdout", home / "stderr"
        command = [sys.executable, "-m", "bc_pipeline.server", "--until-eof"]
        command += ["--host", LOOPBACK, "--port", "0"]
        command += ["--folder", str(folder.absolute())]
        environment = _environment(
            BC_HOME=home,
            BC_SERVICE_KEYS_FILE=key_store,
            BC_SERVICE_PROBLEM=problem,
            BC_LOG_LEVEL="WARNING",
            **keys,
        )
        with (
            output.open("wb") as stdout,
            log.open("wb") as stderr,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                cwd=home,
                env=environment,
            ) as process,
        ):
            try:
                yield _read_port(process, output, log, deadline), key
            finally:
                _terminate(process)


def _environment(**settings: Path | str) -> dict[str, str]:
    """The caller's environment without its settings, with these and with the caller's code."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BC_")}
    code = str(Path(__file__).resolve().parents[2])
    search = [code, *filter(None, [os.environ.get("PYTHONPATH")])]
    return (
        inherited
        | {"PYTHONPATH": os.pathsep.join(search)}
        | {name: str(value) for name, value in settings.items()}
    )


def _read_port(process: subprocess.Popen[bytes], output: Path, log: Path, deadline: float) -> int:
    """The port in the line that the service writes once it accepts requests."""
    while time.monotonic() < deadline:
        line, end, _ = output.read_bytes().partition(b"\n")
        if end:
            return int(json.loads(line)["port"])
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines()
            last = f": {lines[-1][:500]}" if lines else "."
            raise SmokeTestFailed(f"The service ended with {process.returncode}{last}")
        time.sleep(_POLL_SECONDS)
    raise TransientError("The service did not start in time.", "Is this machine busy? Try again.")


def _terminate(process: subprocess.Popen[bytes]) -> None:
    """End the service and wait for it; one that does not end is killed."""
    process.terminate()
    try:
        process.wait(_TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
