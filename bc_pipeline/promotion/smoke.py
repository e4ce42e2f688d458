"""Smoke test: the very artifact in the real service, in a process of its own.

The service is started on a free port of the loopback interface, asked for the golden rows
in both forms it takes, and ended, whatever happens. If this process is killed, the service
sees its standard input end and leaves by itself.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from bc_pipeline.access.keys import create_key
from bc_pipeline.artifacts.evidence import Smoke
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.versions import open_version
from bc_pipeline.errors import SmokeTestFailed, StoreError, TransientError

if TYPE_CHECKING:
    import numpy as np

# So that a median means something where the golden rows are few.
_LEAST_REQUESTS = 30
# How often a latency above the bound is measured again.
_MORE_TRIES = 2
_POLL_SECONDS = 0.05
_END_SECONDS = 15.0
_LOOPBACK = "127.0.0.1"


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
    """Start the service on a version that is not published yet and compare its answers.

    Parameters
    ----------
    folder : Path
        Of the signed version.
    verify_key : Path
        The public key of its signature.
    golden_values : array of float64, shape (m, n_features)
        In schema order; within the physical ranges.
    golden_probability : array of float64, shape (m,)
        What scikit-learn gives for the positive class.
    latency_ms : float
        Largest median time of an answer, as the client sees it.
    parity_bound : float
        Largest difference of a probability.
    artifact_key : Path, optional
        The key's file, where the version is encrypted: the service decrypts it by itself.
    timeout : float
        Seconds for the start and for all answers together.

    Returns
    -------
    Smoke
        Not passed, with the reason, for whatever the artifact or the service does wrong.

    Raises
    ------
    TransientError
        Where this machine cannot run the test: no process, no disk space, no answer in time.
    ConfigError
        Where the key is missing or is none.
    """
    started = time.monotonic()
    rows = len(golden_values)
    try:
        manifest = open_version(folder, verify_key).manifest
        keys = {"BC_VERIFY_KEY_FILE": verify_key.absolute()}
        if artifact_key is not None:
            keys["BC_ARTIFACT_KEY_FILE"] = artifact_key.absolute()
        with _service(folder, keys, manifest.problem, started + timeout) as address:
            answers = _ask(address, manifest, golden_values, started + timeout)
            for _ in range(_MORE_TRIES):
                if not answers or _median(answers) <= latency_ms:
                    break
                # A machine that was busy for a moment is no fault of the model.
                answers = _ask(address, manifest, golden_values, started + timeout)
    except (SmokeTestFailed, StoreError) as error:
        result = Smoke(False, rows, None, None, error.message)
    except OSError as error:
        raise TransientError(f"The smoke test could not run: {error}.", "Try again.") from error
    else:
        result = _judge(answers, manifest, golden_probability, latency_ms, parity_bound)
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


@dataclass(frozen=True)
class _Address:
    port: int
    key: str


@dataclass(frozen=True)
class _Answer:
    row: int
    content: dict[str, Any]
    ms: float


@contextmanager
def _service(
    folder: Path, keys: Mapping[str, Path], problem: str, deadline: float
) -> Iterator[_Address]:
    """Run the service until the block ends; `keys` are the settings that name key files."""
    with tempfile.TemporaryDirectory(prefix="bc-smoke-") as name:
        home = Path(name)
        key_store = home / "service_keys.json"
        key, _ = create_key(key_store, "smoke", ["predict"])
        output, log = home / "stdout", home / "stderr"
        command = [sys.executable, "-m", "bc_pipeline.serving", "--until-eof"]
        command += ["--host", _LOOPBACK, "--port", "0"]
        command += ["--folder", str(folder.absolute())]
        with output.open("wb") as stdout, log.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                cwd=home,
                env=_environment(
                    BC_HOME=home,
                    BC_SERVICE_KEYS_FILE=key_store,
                    BC_SERVICE_PROBLEM=problem,
                    BC_LOG_LEVEL="WARNING",
                    **keys,
                ),
            )
        try:
            yield _Address(_port(process, output, log, deadline), key)
        finally:
            _end(process)


def _environment(**settings: Path | str) -> dict[str, str]:
    """The caller's environment, with these settings alone and with the caller's own code."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BC_")}
    code = str(Path(__file__).resolve().parents[2])
    search = [code, *filter(None, [os.environ.get("PYTHONPATH")])]
    return (
        kept
        | {"PYTHONPATH": os.pathsep.join(search)}
        | {name: str(value) for name, value in settings.items()}
    )


def _port(process: subprocess.Popen[bytes], output: Path, log: Path, deadline: float) -> int:
    """The port of the line that the service writes once it accepts requests."""
    while time.monotonic() < deadline:
        line, end, _ = output.read_bytes().partition(b"\n")
        if end:
            return int(json.loads(line)["port"])
        if process.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines()
            last = f": {said[-1][:500]}" if said else "."
            raise SmokeTestFailed(f"The service ended with {process.returncode}{last}")
        time.sleep(_POLL_SECONDS)
    raise TransientError("The service did not start in time.", "Is this machine busy? Try again.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the service and wait for it."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _ask(
    address: _Address, manifest: Manifest, golden_values: np.ndarray, deadline: float
) -> list[_Answer]:
    """Ask for health once, then for every golden row, in rounds, over one connection."""
    connection = HTTPConnection(_LOOPBACK, address.port, timeout=1.0)
    try:
        health = _exchange(connection, "GET", "/health", None, {}, deadline)
        if health.get("model_version") != manifest.version:
            raise SmokeTestFailed("The service answers for another version.")
        names = manifest.feature_schema.names
        rounds = -(-_LEAST_REQUESTS // max(len(golden_values), 1))
        headers = {"Content-Type": "application/json", "X-API-Key": address.key}
        answers: list[_Answer] = []
        for turn in range(rounds):
            for row, values in enumerate(golden_values.tolist()):
                named = dict(zip(names, values, strict=True))
                body = json.dumps(named if (turn + row) % 2 == 0 else {"features": values})
                started = time.perf_counter()
                content = _exchange(connection, "POST", "/predict", body, headers, deadline)
                answers.append(_Answer(row, content, (time.perf_counter() - started) * 1000))
        return answers
    finally:
        connection.close()


def _exchange(
    connection: HTTPConnection,
    method: str,
    path: str,
    body: str | None,
    headers: dict[str, str],
    deadline: float,
) -> dict[str, Any]:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TransientError("The service did not answer in time.", "Try again.")
    connection.timeout = left
    if connection.sock is not None:
        connection.sock.settimeout(left)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = json.loads(response.read())
    except TimeoutError:
        raise TransientError("The service did not answer in time.", "Try again.") from None
    except (OSError, HTTPException, ValueError) as error:
        raise SmokeTestFailed(f"{method} {path} failed: {type(error).__name__}.") from error
    if response.status != 200 or not isinstance(content, dict):
        code = content.get("code", "") if isinstance(content, dict) else ""
        raise SmokeTestFailed(f"{method} {path} answered with status {response.status} {code}.")
    return content


def _median(answers: list[_Answer]) -> float:
    return statistics.median(answer.ms for answer in answers)


def _judge(
    answers: list[_Answer],
    manifest: Manifest,
    golden_probability: np.ndarray,
    latency_ms: float,
    parity_bound: float,
) -> Smoke:
    """Compare every answer with scikit-learn's probability and the manifest's threshold."""
    labels = manifest.label_set
    golden = golden_probability.tolist()
    worst = 0.0
    wrong_calls = set()
    for answer in answers:
        try:
            given = float(answer.content["probabilities"][labels.positive.name])
            call = (answer.content["prediction"], answer.content["label"])
            version = answer.content["model_version"]
        except (KeyError, TypeError, ValueError):
            return Smoke(False, len(golden), None, None, "An answer lacks its keys.")
        if version != manifest.version:
            return Smoke(False, len(golden), None, None, "An answer is by another version.")
        difference = abs(given - golden[answer.row])
        worst = max(worst, difference) if difference == difference else float("inf")
        # On the threshold itself, rounding may decide.
        near = abs(golden[answer.row] - manifest.threshold) <= parity_bound
        positive = (given if near else golden[answer.row]) > manifest.threshold
        if call != (labels.code(positive), labels.name(positive)):
            wrong_calls.add(answer.row)
    median = _median(answers) if answers else None
    reasons = []
    if not answers:
        reasons.append("there were no golden rows")
    if worst > parity_bound:
        reasons.append(f"a probability is off by {worst:.3g}, more than {parity_bound:g}")
    if wrong_calls:
        reasons.append(f"{len(wrong_calls)} of {len(golden)} calls are wrong")
    if median is not None and not median <= latency_ms:
        reasons.append(f"the median answer took {median:.1f} ms, more than {latency_ms:g}")
    return Smoke(
        passed=not reasons,
        rows=len(golden),
        worst_difference=worst if answers and worst != float("inf") else None,
        median_ms=round(median, 3) if median is not None else None,
        reason="; ".join(reasons),
    )
