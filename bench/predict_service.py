"""What a prediction costs in the service as it runs, beside services that others would write.

    python bench/predict_service.py [--quick] [--strict] [--protocols] [--json FILE]

All services run at the same time and are asked in turn, round after round, by one client that
keeps 16 connections busy; CPU per request is the CPU time of a service's processes over the
requests that it answered. What is measured of ours is what `make up` starts: launcher, worker
and drainer, which follow a registry, with API key, validation, limits, prediction log, metrics
and access log on. A second table has the same rows by every protocol. Figures depend on the machine
and on what else it does; ratios much less. With `--strict` it ends with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import structlog
from serving import protocols
from serving.client import Load, load, request
from serving.parts import Part, measure_parts
from serving.peers import (
    Peer,
    cpu_seconds,
    memory_mb,
    start_bare,
    start_naive,
    start_ours,
)
from serving.volume import KEY, Volume, bodies, make_volume

from bc_pipeline.prediction_log import segments
from bc_pipeline.settings import Settings

MODELS = {"logistic": "logistic", "forest": "random_forest"}
WORKER, DRAINER = ".worker", "bc_pipeline.prediction_log"
WARM_UP = 300
MEMORY_REQUESTS = 20_000
STARTS = 5
_DRAIN_PATIENCE = 30.0
# What may be missed or met: name, comparison, bound, unit.
GOALS = (
    ("CPU per request, logistic", "<=", 45.0, "us"),
    ("CPU per request, forest", "<=", 55.0, "us"),
    ("naive over ours, logistic", ">=", 25.0, "x"),
    ("naive over ours, forest", ">=", 25.0, "x"),
    ("bare uvicorn over ours, logistic", ">=", 0.45, "x"),
    ("p99 over bare uvicorn's, logistic", "<=", 2.5, "x"),
    ("p99 over bare uvicorn's, forest", "<=", 2.5, "x"),
    ("memory of a worker", "<=", 120.0, "MB"),
    ("start to ready", "<=", 1.5, "s"),
)


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
        found = self._load(seconds)
        after, _ = self._clocks()
        if self.spool is not None:
            wait_until_drained(self.spool)
        _, drained = self._clocks()
        self.worker_us.append((after - worker) / found.requests * 1e6)
        self.drainer_us.append((drained - drainer) / found.requests * 1e6)
        self.rates.append(found.requests / found.seconds)
        self.waits.append(found.milliseconds)
        self.client_share.append(found.client_cpu / found.seconds)

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


def contestants(volumes: dict[str, Volume], folder: Path, stack: ExitStack) -> list[Contestant]:
    """Start every service."""
    made: list[Contestant] = []
    forms = bodies()
    for model, volume in volumes.items():
        expected = volume.version.encode()
        ours = start_ours(volume, folder / f"ours-{model}.log")
        stack.callback(ours.stop)
        spool = segments.spool_folder(Settings(home=volume.home).records)
        for form, texts in forms.items():
            asked = [request("/predict", text, key=KEY, port=ours.port) for text in texts]
            made.append(
                Contestant(
                    *(f"ours, {form}", model, ours, asked, expected),
                    *(ours.find(WORKER), ours.find("bc_pipeline.prediction_log"), spool),
                )
            )
        naive = start_naive(volume, folder / f"naive-{model}.log")
        stack.callback(naive.stop)
        asked = [request("/predict", text, port=naive.port) for text in forms["named"]]
        made.append(Contestant("naive", model, naive, asked, expected, naive.process.pid))
    first = made[0]
    bare = start_bare(_answer_of(first), folder / "bare.log")
    stack.callback(bare.stop)
    asked = [request("/predict", text, key=KEY, port=bare.port) for text in forms["named"]]
    made.append(Contestant("bare", "-", bare, asked, first.expected, bare.process.pid))
    return made


def _answer_of(contestant: Contestant) -> str:
    """A body of the size that ours answers with."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", contestant.peer.port, timeout=10)
    head, _, body = contestant.requests[0].partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    connection.request("POST", "/predict", body, headers)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


@contextmanager
def own_processor() -> Iterator[None]:
    """Give what is started within one processor to share, and the client another.

    The services are asked one at a time. Where client and service share a processor, each
    answer costs the service what the client leaves in the caches.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    if others:
        os.sched_setaffinity(0, others[:1])
    yield
    os.sched_setaffinity(0, [first])


def starts(volume: Volume, log: Path, number: int) -> dict[str, float]:
    """Seconds to listening and to ready; memory at the start and after many predictions."""
    found = []
    for _ in range(number - 1):
        peer = start_ours(volume, log)
        found.append((peer.listening, peer.ready))
        peer.stop()
    with ExitStack() as stack:
        last = start_ours(volume, log)
        stack.callback(last.stop)
        found.append((last.listening, last.ready))
        worker = last.find(WORKER)
        before = memory_mb(worker)
        asked = [request("/predict", body, key=KEY) for body in bodies()["named"]]
        load(last.port, asked, volume.version.encode(), number=MEMORY_REQUESTS)
        after = memory_mb(worker)
        drainer, launcher = (
            memory_mb(last.find("bc_pipeline.prediction_log")),
            memory_mb(last.process.pid),
        )
    return {
        "listening_seconds": statistics.median(one for one, _ in found),
        "ready_seconds": statistics.median(one for _, one in found),
        "worker_mb_at_start": before,
        "worker_mb_after": after,
        "drainer_mb": drainer,
        "launcher_mb": launcher,
    }


def judge(asked: Sequence[Contestant], process: dict[str, float]) -> list[dict[str, object]]:
    """Every goal with what was found."""
    by_name = {(one.name, one.model): one for one in asked}
    bare = by_name["bare", "-"]
    found: dict[str, float] = {}
    for model in MODELS:
        ours, naive = by_name["ours, named", model], by_name["naive", model]
        found[f"CPU per request, {model}"] = statistics.median(ours.worker_us)
        found[f"naive over ours, {model}"] = ratio(naive, ours)
        found[f"bare uvicorn over ours, {model}"] = ratio(bare, ours)
        found[f"p99 over bare uvicorn's, {model}"] = p99_ratio(ours, bare)
    found["memory of a worker"] = process["worker_mb_after"]
    found["start to ready"] = process["ready_seconds"]
    return [
        {
            "goal": f"{name} {rule} {bound:g} {unit}",
            "found": found[name],
            "met": found[name] <= bound if rule == "<=" else found[name] >= bound,
        }
        for name, rule, bound, unit in GOALS
    ]


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


def compare_protocols(volume: Volume, folder: Path, rounds: int) -> protocols.Comparison:
    """Ask a service of its own by every protocol, and bare uvicorn."""
    with ExitStack() as stack:
        with own_processor():
            ours = start_ours(volume, folder / "protocols.log")
            stack.callback(ours.stop)
            bare = start_bare(protocols.constant(volume.version), folder / "bare-protocols.log")
            stack.callback(bare.stop)
        compared = protocols.Comparison(volume.version)
        compared.measure(ours, ours.find(WORKER), bare, rounds)
    return compared


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under 30 seconds, coarser")
    parser.add_argument("--rounds", type=int, help="default: 9, or 2")
    parser.add_argument("--seconds", type=float, help="of each service in a round")
    parser.add_argument("--strict", action="store_true", help="end with 1 for a goal missed")
    parser.add_argument("--protocols", action="store_true", help="only the table of protocols")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    rounds = options.rounds or (2 if options.quick else 9)
    seconds = options.seconds or (0.5 if options.quick else 1.5)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        volumes = {
            model: make_volume(folder / model, candidate) for model, candidate in MODELS.items()
        }
        compared = compare_protocols(volumes["logistic"], folder, rounds)
        if options.protocols:
            compared.show()
            return int(options.strict and not compared.goals_met())
        process = starts(volumes["logistic"], folder / "starts.log", 2 if options.quick else STARTS)
        with own_processor():
            asked = contestants(volumes, folder, stack)
        for one in asked:
            one.warm_up()
        for _ in range(rounds):
            for one in asked:
                one.ask(seconds)
        inside = {
            model: measure_parts(volume, bodies()["named"], 50 if options.quick else 400)
            for model, volume in volumes.items()
        }
    goals = judge(asked, process)
    show(asked, process, inside, goals)
    compared.show()
    if options.json:
        figures = {
            "services": [{"name": one.name, "model": one.model, **one.summary()} for one in asked],
            "process": process,
            "inside": {
                model: {part.name: [part.least, part.median] for part in parts}
                for model, parts in inside.items()
            },
            "goals": goals,
            "protocols": compared.figures(),
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    met = compared.goals_met() and all(goal["met"] for goal in goals)
    return int(options.strict and not met)


def show(
    asked: Sequence[Contestant],
    process: dict[str, float],
    inside: dict[str, list[Part]],
    goals: Sequence[dict[str, object]],
) -> None:
    named = {one.model: one for one in asked if one.name == "ours, named"}
    print("CPU per request in us (median of the rounds; least), one worker, 16 connections")
    print(f"{'service':22}{'worker':>8}{'least':>8}{'drainer':>9}{'rps':>8}", end="")
    print(f"{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}{'x ours':>8}{'client':>8}")
    for one in asked:
        own = named.get(one.model, named["logistic"])
        line = one.summary()
        drainer = f"{line['drainer_us']:9.1f}" if one.drainer else f"{'':9}"
        print(
            f"{one.name + ' ' + one.model:22}{line['worker_us']:8.1f}"
            f"{line['worker_us_least']:8.1f}{drainer}{line['requests_per_second']:8,.0f}"
            f"{line['p50_ms']:8.2f}{line['p95_ms']:8.2f}{line['p99_ms']:8.2f}"
            f"{ratio(one, own):8.2f}{line['client_share']:7.0%}"
        )
    print(
        "\n'client': share of one core that the client took; well under 100%, it kept nobody back"
    )
    for model, parts in inside.items():
        print(f"\nInside the worker, {model}, us of one prediction (least and median of batches)")
        for part in parts:
            print(f"  {part.name:34}{part.least:7.2f}{part.median:7.2f}")
    print(
        f"\nOne worker, logistic: listening after {process['listening_seconds']:.2f} s, ready "
        f"after {process['ready_seconds']:.2f} s; {process['worker_mb_at_start']:.0f} MB at the "
        f"start, {process['worker_mb_after']:.0f} MB after {MEMORY_REQUESTS:,} predictions; "
        f"drainer {process['drainer_mb']:.0f} MB, launcher {process['launcher_mb']:.0f} MB"
    )
    print("\nGoals (absolute ones are for a machine that does nothing else)")
    for goal in goals:
        print(f"  {'met   ' if goal['met'] else 'MISSED'} {goal['goal']:44}{goal['found']:8.2f}")


if __name__ == "__main__":
    sys.exit(main())
