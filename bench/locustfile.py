"""Load by Locust: the seed's scenario, and as much as two processors give.

With nothing else, against the real service on a volume of its own::

    python bench/locustfile.py [--seconds 20] [--workers 2]

Against a running one, with its key in the environment::

    BC_API_KEY=... locust -f bench/locustfile.py Seed --headless -u 30 -r 30 -t 60s \\
        -H http://127.0.0.1:8000
    BC_API_KEY=... locust -f bench/locustfile.py Most --headless -u 64 -r 64 -t 60s \\
        --processes 1 -H http://127.0.0.1:8000

`Seed` sends 150 requests per second however many users there are, and ends with 1 where a
request failed or the 95th percentile is 200 ms or more. `Most` waits for nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant_throughput, events, task
from serving.peers import start_ours
from serving.volume import KEY, bodies, make_volume

REQUESTS_PER_SECOND = 150
USERS = 30
MOST_USERS = 64
P95_MS = 200
BODIES = bodies()["named"]


class _Caller(FastHttpUser):
    abstract = True

    def on_start(self) -> None:
        self.headers = {
            "Content-Type": "application/json",
            "X-API-Key": os.environ["BC_API_KEY"],
        }

    @task
    def predict(self) -> None:
        body = random.choice(BODIES)
        with self.client.post(
            "/predict", data=body, headers=self.headers, catch_response=True
        ) as answer:
            if answer.status_code != 200 or b'"model_version"' not in answer.content:
                answer.failure(f"answered with status {answer.status_code}")


class Seed(_Caller):
    """What the seed promises: 150 requests per second, 95 of 100 within 200 ms."""

    wait_time = constant_throughput(REQUESTS_PER_SECOND / USERS)


class Most(_Caller):
    """As fast as answers come."""


@events.quitting.add_listener
def judge(environment: Any, **_: Any) -> None:
    """Turn the promise into the exit code."""
    total = environment.stats.total
    p95 = total.get_response_time_percentile(0.95) or 0
    print(
        f"{total.num_requests} requests, {total.num_failures} failed, "
        f"{total.total_rps:.0f} per second; median {total.median_response_time} ms, "
        f"p95 {p95:.0f} ms, p99 {total.get_response_time_percentile(0.99) or 0:.0f} ms"
    )
    seed = environment.user_classes == [Seed]
    succeeded = total.num_requests and not total.num_failures and (p95 < P95_MS or not seed)
    environment.process_exit_code = 0 if succeeded else 1


def main() -> int:
    """Start the service, run both scenarios against it, and stop it."""
    parser = argparse.ArgumentParser(description="Both scenarios against a service of its own.")
    parser.add_argument("--seconds", type=int, default=20, help="of each scenario")
    parser.add_argument("--workers", type=int, default=2, help="processes that answer")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        volume = make_volume(Path(name), "logistic")
        service = start_ours(volume, Path(name) / "log", workers=options.workers)
        try:
            for scenario, users in (("Seed", USERS), ("Most", MOST_USERS)):
                print(f"{scenario}, {users} users, {options.workers} workers:", flush=True)
                command = [sys.executable, "-m", "locust", "-f", __file__, scenario, "--headless"]
                run = subprocess.run(
                    [
                        *(*command, "--only-summary", "--loglevel", "ERROR"),
                        *("-u", str(users), "-r", str(users), "-t", f"{options.seconds}s"),
                        *("-H", f"http://127.0.0.1:{service.port}"),
                    ],
                    env={**os.environ, "BC_API_KEY": KEY},
                    stderr=subprocess.DEVNULL,
                )
                failed += run.returncode != 0
        finally:
            service.stop()
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
