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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog
from serving import protocols
from serving.client import load, request
from serving.contestants import (
    DRAINER,
    WORKER,
    Contestant,
    p99_ratio,
    ratio,
    start_contestants,
)
from serving.parts import Part, measure_parts
from serving.peers import memory_mb, start_bare, start_ours
from serving.volume import KEY, Volume, bodies, make_volume

MODELS = {"logistic": "logistic", "forest": "random_forest"}
MEMORY_REQUESTS = 20_000
STARTS = 5
# Bounds on the figures: name, comparison, bound, unit.
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
    times = []
    for _ in range(number - 1):
        peer = start_ours(volume, log)
        times.append((peer.listening, peer.ready))
        peer.stop()
    with ExitStack() as stack:
        last = start_ours(volume, log)
        stack.callback(last.stop)
        times.append((last.listening, last.ready))
        worker = last.find(WORKER)
        before = memory_mb(worker)
        requests = [request("/predict", body, key=KEY) for body in bodies()["named"]]
        load(last.port, requests, volume.version.encode(), number=MEMORY_REQUESTS)
        after = memory_mb(worker)
        drainer, launcher = memory_mb(last.find(DRAINER)), memory_mb(last.process.pid)
    return {
        "listening_seconds": statistics.median(one for one, _ in times),
        "ready_seconds": statistics.median(one for _, one in times),
        "worker_mb_at_start": before,
        "worker_mb_after": after,
        "drainer_mb": drainer,
        "launcher_mb": launcher,
    }


def judge(contestants: Sequence[Contestant], process: dict[str, float]) -> list[dict[str, object]]:
    """Every goal with what was measured."""
    by_name = {(one.name, one.model): one for one in contestants}
    bare = by_name["bare", "-"]
    measured: dict[str, float] = {}
    for model in MODELS:
        ours, naive = by_name["ours, named", model], by_name["naive", model]
        measured[f"CPU per request, {model}"] = statistics.median(ours.worker_us)
        measured[f"naive over ours, {model}"] = ratio(naive, ours)
        measured[f"bare uvicorn over ours, {model}"] = ratio(bare, ours)
        measured[f"p99 over bare uvicorn's, {model}"] = p99_ratio(ours, bare)
    measured["memory of a worker"] = process["worker_mb_after"]
    measured["start to ready"] = process["ready_seconds"]
    return [
        {
            "goal": f"{name} {rule} {bound:g} {unit}",
            "measured": measured[name],
            "met": measured[name] <= bound if rule == "<=" else measured[name] >= bound,
        }
        for name, rule, bound, unit in GOALS
    ]


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
            contestants = start_contestants(volumes, folder, stack)
        for one in contestants:
            one.warm_up()
        for _ in range(rounds):
            for one in contestants:
                one.ask(seconds)
        inside = {
            model: measure_parts(volume, bodies()["named"], 50 if options.quick else 400)
            for model, volume in volumes.items()
        }
    goals = judge(contestants, process)
    show(contestants, process, inside, goals)
    compared.show()
    if options.json:
        figures = {
            "services": [
                {"name": one.name, "model": one.model, **one.summary()} for one in contestants
            ],
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
    contestants: Sequence[Contestant],
    process: dict[str, float],
    inside: dict[str, list[Part]],
    goals: Sequence[dict[str, object]],
) -> None:
    named = {one.model: one for one in contestants if one.name == "ours, named"}
    print("CPU per request in us (median of the rounds; least), one worker, 16 connections")
    print(f"{'service':22}{'worker':>8}{'least':>8}{'drainer':>9}{'rps':>8}", end="")
    print(f"{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}{'x ours':>8}{'client':>8}")
    for one in contestants:
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
        print(f"  {'met   ' if goal['met'] else 'MISSED'} {goal['goal']:44}{goal['measured']:8.2f}")


if __name__ == "__main__":
    sys.exit(main())
