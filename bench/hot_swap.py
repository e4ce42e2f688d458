"""Latency while the champion is swapped again and again, beside latency while nothing changes.

Starts the service with two workers on a volume of its own and asks without a pause, in turns
with one champion and while the pointer moves between two versions. It also tells how long the
service takes from its start to its first readiness, and what a worker's memory is at the end.

    python bench/hot_swap.py [--swaps 100] [--clients 4]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bc_pipeline.settings import Settings
from tests.e2e.service_process import Answer, Load, quantile, running_service
from tests.e2e.volume import make_releases

WORKERS = 2
STARTS = 5
ROUNDS = 4
SWAP_SECONDS = 0.1
SHARES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}


def milliseconds(answers: list[Answer]) -> dict[str, float]:
    return {name: round(1000 * quantile(answers, share), 2) for name, share in SHARES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        releases, rows = make_releases(home, 2)
        settings = Settings(home=home)
        starts = []
        for _ in range(STARTS):
            started = time.perf_counter()
            with running_service(settings, home) as service:
                assert service.ask("GET", "/readyz")[0] == 200
                starts.append(time.perf_counter() - started)
        still: list[Answer] = []
        swapped: list[Answer] = []
        with running_service(settings, home, workers=WORKERS, BC_RELOAD_SECONDS="0.05") as service:
            for _ in range(ROUNDS):
                for answers, moves in ((still, False), (swapped, True)):
                    with Load(service, rows, clients=options.clients) as load:
                        for swap in range(options.swaps // ROUNDS):
                            if moves:
                                releases.promote(f"v{(swap + 1) % 2}")
                            time.sleep(SWAP_SECONDS)
                    assert not load.failures, load.failures
                    answers += load.answers
            memory = [worker.memory_info().rss / 2**20 for worker in service.workers()]
            loaded = sum(event["event"] == "model_live" for event in service.events())
    wrong = [answer for answer in still + swapped if answer.status != 200]
    ratio = quantile(swapped, 0.99) / quantile(still, 0.99)
    result = {
        "start_to_ready_s": round(statistics.median(starts), 2),
        "still": milliseconds(still) | {"requests": len(still)},
        "swapping": milliseconds(swapped) | {"requests": len(swapped)},
        "p99_ratio": round(ratio, 2),
        "models_taken": loaded,
        "failed": len(wrong),
        "worker_rss_mib": [round(size, 1) for size in memory],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
