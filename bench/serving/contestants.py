"""The services that are compared, and the figures of each round of requests."""

from __future__ import annotations

import http.client
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bc_pipeline.prediction_log import segments
from bc_pipeline.settings import Settings
from serving.client import Load, load, request
from serving.peers import Peer, cpu_seconds, start_bare, start_naive, start_ours
from serving.volume import KEY, Volume, bodies

WORKER, DRAINER = ".worker", "bc_pipeline.prediction_log"
WARM_UP = 300
_DRAIN_PATIENCE = 30.0


@dataclass
class Contestant:
    """A service and one way of asking it; figures of each round.

    Attributes
    ----------
    worker : int
        Process that answers.
    drainer : int
        Process that drains the prediction log; 0: there is none.
    """

    name: str
    model: str
    peer: Peer
    requests: list[bytes]
    expected: bytes
    worker: int
    drainer: int = 0
    spool: Path | None = None
    worker_us: list[float] = field(default_factory=list)
    drainer_us: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    waits: list[np.ndarray] = field(default_factory=list)
    client_share: list[float] = field(default_factory=list)

    def ask(self, seconds: float) -> None:
        """One round."""
        worker, drainer = self._clocks()
        answered = self._load(seconds)
        after, _ = self._clocks()
        if self.spool is not None:
            wait_until_drained(self.spool)
        _, drained = self._clocks()
        self.worker_us.append((after - worker) / answered.requests * 1e6)
        self.drainer_us.append((drained - drainer) / answered.requests * 1e6)
        self.rates.append(answered.requests / answered.seconds)
        self.waits.append(answered.milliseconds)
        self.client_share.append(answered.client_cpu / answered.seconds)

    def warm_up(self) -> None:
        load(self.peer.port, self.requests, self.expected, number=WARM_UP)

    def _load(self, seconds: float) -> Load:
        return load(self.peer.port, self.requests, self.expected, seconds=seconds)

    def _clocks(self) -> tuple[float, float]:
        drainer = cpu_seconds([self.drainer]) if self.drainer else 0.0
        return cpu_seconds([self.worker]), drainer

    def summary(self) -> dict[str, float]:
        waits = np.concatenate(self.waits)
        p50, p95, p99 = np.percentile(waits, [50, 95, 99])
        return {
            "worker_us": statistics.median(self.worker_us),
            "worker_us_least": min(self.worker_us),
            "drainer_us": statistics.median(self.drainer_us),
            "requests": float(len(waits)),
            "requests_per_second": statistics.median(self.rates),
            "p50_ms": float(p50),
            "p95_ms": float(p95),
            "p99_ms": float(p99),
            "client_share": statistics.median(self.client_share),
        }


def wait_until_drained(folder: Path) -> None:
    until = time.monotonic() + _DRAIN_PATIENCE
    while segments.backlog_bytes(folder):
        if time.monotonic() > until:
            raise TimeoutError("the drainer does not keep up")
        time.sleep(0.02)


def start_contestants(
    volumes: dict[str, Volume], folder: Path, stack: ExitStack
) -> list[Contestant]:
    """Start every service."""
    started: list[Contestant] = []
    forms = bodies()
    for model, volume in volumes.items():
        expected = volume.version.encode()
        ours = start_ours(volume, folder / f"ours-{model}.log")
        stack.callback(ours.stop)
        spool = segments.spool_folder(Settings(home=volume.home).records)
        for form, texts in forms.items():
            requests = [request("/predict", text, key=KEY, port=ours.port) for text in texts]
            started.append(
                Contestant(
                    *(f"ours, {form}", model, ours, requests, expected),
                    *(ours.find(WORKER), ours.find(DRAINER), spool),
                )
            )
        naive = start_naive(volume, folder / f"naive-{model}.log")
        stack.callback(naive.stop)
        requests = [request("/predict", text, port=naive.port) for text in forms["named"]]
        started.append(Contestant("naive", model, naive, requests, expected, naive.process.pid))
    first = started[0]
    bare = start_bare(_answer_of(first), folder / "bare.log")
    stack.callback(bare.stop)
    requests = [request("/predict", text, key=KEY, port=bare.port) for text in forms["named"]]
    started.append(Contestant("bare", "-", bare, requests, first.expected, bare.process.pid))
    return started


def _answer_of(contestant: Contestant) -> str:
    """A body of the size that ours answers with."""
    connection = http.client.HTTPConnection("127.0.0.1", contestant.peer.port, timeout=10)
    head, _, body = contestant.requests[0].partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    connection.request("POST", "/predict", body, headers)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


def ratio(above: Contestant, below: Contestant) -> float:
    """Median of the rounds' ratios: what slows one round slows both sides."""
    pairs = zip(above.worker_us, below.worker_us, strict=True)
    return statistics.median(one / other for one, other in pairs)


def p99_ratio(above: Contestant, below: Contestant) -> float:
    """Median of the rounds' ratios of the 99th percentiles."""
    pairs = zip(above.waits, below.waits, strict=True)
    return statistics.median(
        float(np.percentile(one, 99) / np.percentile(other, 99)) for one, other in pairs
    )
