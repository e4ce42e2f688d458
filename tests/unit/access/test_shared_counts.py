"""Workers that count together, against a real Redis."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.access.limits import Limiter
from bc_pipeline.access.shared_counts import SharedCounts
from bc_pipeline.errors import ConfigError, RateLimited
from bc_pipeline.settings import Settings

PASSWORD = "CANARY-password"


class Redis:
    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *("redis-server", "--bind", "127.0.0.1", "--port", str(self.port)),
                *("--requirepass", PASSWORD, "--save", "", "--dir", str(self._folder)),
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> Any:
        import redis

        return redis.Redis.from_url(self.url)

    def _answers(self) -> bool:
        import redis

        client = self.client()
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is missing: 'apt-get install redis-server' brings it")
    server = Redis(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def worker(redis_server: Redis, settings: Settings) -> Iterator[Callable[..., Limiter]]:
    made: list[Limiter] = []

    def make(**rates: str) -> Limiter:
        changes = {"redis_url": redis_server.url, **rates}
        made.append(Limiter.of(Settings(**(settings.model_dump() | changes))))
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def settled(*workers: Limiter) -> None:
    """Wait until Redis was told everything, and has answered."""
    counters = [c for limiter in workers for c in (limiter._keys, limiter._failures)]
    until(lambda: all(w.told == w.granted for c in counters for w in c._windows.values()))


def spent(limiter: Limiter, tries: int) -> int:
    through = 0
    for _ in range(tries):
        try:
            limiter.spend_key("caller")
        except RateLimited:
            continue
        through += 1
    return through


@pytest.mark.parametrize("count", [1, 2, 4])
def test_workers_share_one_limit(worker: Callable[..., Limiter], count: int) -> None:
    limit = 1000
    workers = [worker(rate_limit_key=f"{limit}/hour") for _ in range(count)]
    through = 0
    for _ in range(120):
        # The pace leaves Redis the moment that it needs to answer.
        through += sum(spent(limiter, 10) for limiter in workers)
        time.sleep(0.002)
    lease = limit // 50
    assert limit - count * lease <= through <= limit + count * lease


def test_one_failure_counts_everywhere(worker: Callable[..., Limiter]) -> None:
    first, second = worker(rate_limit_failures="5/hour"), worker(rate_limit_failures="5/hour")
    for _ in range(4):
        first.spend_failure("192.0.2.1")
    settled(first)
    second.check_failures("192.0.2.1")
    second.spend_failure("192.0.2.1")
    settled(second)
    with pytest.raises(RateLimited):
        second.check_failures("192.0.2.1")


def test_failures_are_told_one_by_one(worker: Callable[..., Limiter]) -> None:
    first, second = worker(rate_limit_failures="500/hour"), worker(rate_limit_failures="500/hour")
    first.spend_failure("192.0.2.1")
    settled(first)
    second.spend_failure("192.0.2.1")
    settled(second)
    assert [window.elsewhere for window in second._failures._windows.values()] == [1]


def test_redis_keeps_no_address_and_no_subject(
    worker: Callable[..., Limiter], redis_server: Redis
) -> None:
    limiter = worker()
    limiter.spend_key("token:client-7")
    limiter.spend_address("192.0.2.1")
    client = redis_server.client()
    until(lambda: client.dbsize() == 2)
    keys = [key.decode() for key in client.scan_iter()]
    assert not any("client-7" in key or "192.0.2.1" in key for key in keys)
    assert all(0 < client.ttl(key) <= 120 for key in keys)
    client.close()


def test_a_worker_counts_on_while_redis_is_away(
    worker: Callable[..., Limiter], redis_server: Redis, events: list[Any]
) -> None:
    limiter = worker(rate_limit_key="1000/hour")
    shared = limiter.shared
    assert shared is not None
    assert spent(limiter, 100) == 100
    settled(limiter)
    redis_server.stop()
    started = time.perf_counter()
    assert spent(limiter, 5000) == 900
    assert time.perf_counter() - started < 0.5
    until(lambda: shared.away_since is not None)
    redis_server.start()
    other = worker(rate_limit_key="1000/hour")

    def comes_back() -> bool:
        limiter.spend_address("192.0.2.1")
        limiter._addresses._windows.clear()
        return shared.away_since is None

    until(comes_back)
    names = [event["event"] for event in events]
    assert names.count("limits.redis_away") == 1
    assert names.count("limits.redis_back") == 1
    assert PASSWORD not in str(events)
    assert spent(other, 10) == 10


def test_what_was_spent_meanwhile_is_told_later(
    worker: Callable[..., Limiter], redis_server: Redis
) -> None:
    first, second = (worker(rate_limit_key="1000/hour") for _ in range(2))
    shared = first.shared
    assert shared is not None
    redis_server.stop()
    assert spent(first, 500) == 500
    until(lambda: shared.away_since is not None)
    redis_server.start()
    shared._pause_until = 0.0
    assert spent(first, 100) == 100
    settled(first)
    through = 0
    for _ in range(100):
        through += spent(second, 10)
        time.sleep(0.002)
    assert 400 - 40 <= through <= 400 + 40


def test_a_redis_that_was_never_there_stops_nothing(settings: Settings) -> None:
    limiter = Limiter.of(
        Settings(**(settings.model_dump() | {"redis_url": "redis://127.0.0.1:1/0"}))
    )
    limiter.spend_key("caller")
    shared = limiter.shared
    assert shared is not None
    until(lambda: shared.away_since is not None)
    limiter.close()


@pytest.mark.parametrize("url", [f"http://:{PASSWORD}@host/", f"redis+x://{PASSWORD}", PASSWORD])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SharedCounts(url)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__
