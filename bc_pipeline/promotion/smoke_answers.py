"""The golden rows sent to the service, and its answers compared with the fitted estimator."""

from __future__ import annotations

import json
import math
import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.verdict import Smoke
from bc_pipeline.errors import SmokeTestFailed, TransientError

if TYPE_CHECKING:
    import numpy as np

LOOPBACK = "127.0.0.1"
# Few golden rows are sent several times, so that the median is of enough requests.
_MIN_REQUESTS = 30


@dataclass(frozen=True)
class Answer:
    """The service's answer for a golden row, and its time in milliseconds."""

    row: int
    content: dict[str, Any]
    ms: float


def request_answers(
    port: int, key: str, manifest: Manifest, golden_values: np.ndarray, deadline: float
) -> list[Answer]:
    """Request health once, then every golden row in rounds, over one connection.

    The rows are sent in both forms that ``/predict`` accepts.

    Parameters
    ----------
    port : int
        On the loopback interface.
    key : str
        API key.
    deadline : float
        By `time.monotonic`.

    Raises
    ------
    SmokeTestFailed
        Where the service is of another version, or answers with an error.
    TransientError
        Where it does not answer by the deadline.
    """
    with closing(HTTPConnection(LOOPBACK, port, timeout=1.0)) as connection:
        health = _request(connection, "GET", "/health", None, {}, deadline)
        if health.get("model_version") != manifest.version:
            raise SmokeTestFailed("The service answers for another version.")
        names = manifest.feature_schema.names
        rounds = -(-_MIN_REQUESTS // max(len(golden_values), 1))
        headers = {"Content-Type": "application/json", "X-API-Key": key}
        answers: list[Answer] = []
        for number in range(rounds):
            for row, values in enumerate(golden_values.tolist()):
                named = dict(zip(names, values, strict=True))
                body = json.dumps(named if (number + row) % 2 == 0 else {"features": values})
                started = time.perf_counter()
                content = _request(connection, "POST", "/predict", body, headers, deadline)
                answers.append(Answer(row, content, (time.perf_counter() - started) * 1000))
        return answers


def median_ms(answers: list[Answer]) -> float:
    return statistics.median(answer.ms for answer in answers)


def compare_answers(
    answers: list[Answer],
    manifest: Manifest,
    golden_probability: np.ndarray,
    latency_ms: float,
    parity_bound: float,
) -> Smoke:
    """Compare every answer with the estimator's probability and the manifest's threshold."""
    golden: list[float] = golden_probability.tolist()
    rows = len(golden)
    if not answers:
        return Smoke(False, rows, None, None, "there were no golden rows")
    worst = 0.0
    wrong_calls = set()
    for answer in answers:
        expected = golden[answer.row]
        try:
            probability = float(answer.content["probabilities"][manifest.label_set.positive.name])
            call = (answer.content["prediction"], answer.content["label"])
            version = answer.content["model_version"]
        except (KeyError, TypeError, ValueError):
            return Smoke(False, rows, None, None, "An answer lacks its keys.")
        if version != manifest.version:
            return Smoke(False, rows, None, None, "An answer is by another version.")
        difference = abs(probability - expected)
        worst = max(worst, difference) if math.isfinite(difference) else math.inf
        if call != _expected_call(manifest, probability, expected, parity_bound):
            wrong_calls.add(answer.row)
    median = median_ms(answers)
    reasons = []
    if worst > parity_bound:
        reasons.append(f"a probability is off by {worst:.3g}, more than {parity_bound:g}")
    if wrong_calls:
        reasons.append(f"{len(wrong_calls)} of {rows} calls are wrong")
    if not median <= latency_ms:
        reasons.append(f"the median answer took {median:.1f} ms, more than {latency_ms:g}")
    return Smoke(
        passed=not reasons,
        rows=rows,
        worst_difference=worst if math.isfinite(worst) else None,
        median_ms=round(median, 3),
        reason="; ".join(reasons),
    )


def _expected_call(
    manifest: Manifest, probability: float, expected: float, parity_bound: float
) -> tuple[int, str]:
    """Code and name of the right call; near the threshold rounding may decide it."""
    near = abs(expected - manifest.threshold) <= parity_bound
    positive = (probability if near else expected) > manifest.threshold
    return manifest.label_set.code(positive), manifest.label_set.name(positive)


def _request(
    connection: HTTPConnection,
    method: str,
    path: str,
    body: str | None,
    headers: dict[str, str],
    deadline: float,
) -> dict[str, Any]:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TransientError("The service did not answer in time.", "Try again.")
    connection.timeout = remaining
    if connection.sock is not None:
        connection.sock.settimeout(remaining)
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
