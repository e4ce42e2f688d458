"""Workers that count together, against a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bc_pipeline.auth.rate_limits import RateLimiter
from bc_pipeline.auth.redis_counters import RedisCounters
from bc_pipeline.errors import ConfigError, RateLimited
from bc_pipeline.settings import Settings
from tests.redis_server import PASSWORD, Redis
from tests.waiting import PATIENCE

pytestmark = pytest.mark.integration


@pytest.fixture
def worker(redis_server: Redis, settings: Settings) -> Iterator[Callable[..., RateLimiter]]:
    made: list[RateLimiter] = []

    def make(**rates: str) -> RateLimiter:
        changes = {"redis_url": redis_server.url, **rates}
        made.append(RateLimiter.from_settings(Settings(**(settings.model_dump() | changes))))
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()


def until(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def wait_until_reported(*workers: RateLimiter) -> None:
    """Wait until Redis has confirmed every report."""
    counters = [c for limiter in workers for c in (limiter._keys, limiter._failures)]
    until(lambda: all(w.reported == w.granted for c in counters for w in c._windows.values()))


def accepted(limiter: RateLimiter, tries: int) -> int:
    through = 0
    for _ in range(tries):
        try:
            limiter.count_key("caller")
        except RateLimited:
            continue
        through += 1
    return through


@pytest.mark.parametrize("count", [1, 2, 4])
def test_workers_share_one_limit(worker: Callable[..., RateLimiter], count: int) -> None:
    limit = 1000
    workers = [worker(rate_limit_key=f"{limit}/hour") for _ in range(count)]
    through = 0
    for _ in range(120):
        through += sum(accepted(limiter, 10) for limiter in workers)
        # The bound below holds where Redis answers between two leases.
        wait_until_reported(*workers)
    lease = limit // 50
    assert limit - count * lease <= through <= limit + count * lease


def test_one_failure_counts_everywhere(worker: Callable[..., RateLimiter]) -> None:
    first, second = worker(rate_limit_failures="5/hour"), worker(rate_limit_failures="5/hour")
    for _ in range(4):
        first.count_failure("192.0.2.1")
    wait_until_reported(first)
    second.check_failures("192.0.2.1")
    second.count_failure("192.0.2.1")
    wait_until_reported(second)
    with pytest.raises(RateLimited):
        second.check_failures("192.0.2.1")


def test_failures_are_reported_one_by_one(worker: Callable[..., RateLimiter]) -> None:
    first, second = worker(rate_limit_failures="500/hour"), worker(rate_limit_failures="500/hour")
    first.count_failure("192.0.2.1")
    wait_until_reported(first)
    second.count_failure("192.0.2.1")
    wait_until_reported(second)
    assert [window.others for window in second._failures._windows.values()] == [1]


def test_redis_stores_no_address_and_no_subject(
    worker: Callable[..., RateLimiter], redis_server: Redis
) -> None:
    limiter = worker()
    limiter.count_key("token:client-7")
    limiter.count_address("192.0.2.1")
    client = redis_server.client()
    until(lambda: client.dbsize() == 2)
    keys = [key.decode() for key in client.scan_iter()]
    assert not any("client-7" in key or "192.0.2.1" in key for key in keys)
    assert all(0 < client.ttl(key) <= 120 for key in keys)
    client.close()


def test_a_worker_goes_on_counting_while_redis_is_unavailable(
    worker: Callable[..., RateLimiter], redis_server: Redis, events: list[Any]
) -> None:
    limiter = worker(rate_limit_key="1000/hour")
    redis = limiter.redis
    assert redis is not None
    assert accepted(limiter, 100) == 100
    wait_until_reported(limiter)
    # A paused server accepts connections and never answers: a request that waited for it would
    # take as long as the timeout of the connection.
    redis_server.pause()
    started = time.monotonic()
    assert accepted(limiter, 5000) == 900
    assert time.monotonic() - started < PATIENCE
    redis_server.stop()
    until(lambda: redis.unavailable_since is not None)
    redis_server.start()
    other = worker(rate_limit_key="1000/hour")

    def comes_back() -> bool:
        limiter.count_address("192.0.2.1")
        limiter._addresses._windows.clear()
        return redis.unavailable_since is None

    until(comes_back)
    names = [event["event"] for event in events]
    assert names.count("limits.redis_unreachable") == 1
    assert names.count("limits.redis_back") == 1
    assert PASSWORD not in str(events)
    assert accepted(other, 10) == 10


def test_requests_during_an_outage_are_reported_later(
    worker: Callable[..., RateLimiter], redis_server: Redis
) -> None:
    first, second = (worker(rate_limit_key="1000/hour") for _ in range(2))
    redis = first.redis
    assert redis is not None
    redis_server.stop()
    assert accepted(first, 500) == 500
    until(lambda: redis.unavailable_since is not None)
    redis_server.start()
    redis._retry_at = 0.0
    assert accepted(first, 100) == 100
    wait_until_reported(first)
    through = 0
    for _ in range(100):
        through += accepted(second, 10)
        time.sleep(0.002)
    assert 400 - 40 <= through <= 400 + 40


def test_a_redis_that_never_answered_stops_no_request(settings: Settings) -> None:
    limiter = RateLimiter.from_settings(
        Settings(**(settings.model_dump() | {"redis_url": "redis://127.0.0.1:1/0"}))
    )
    limiter.count_key("caller")
    redis = limiter.redis
    assert redis is not None
    until(lambda: redis.unavailable_since is not None)
    limiter.close()


@pytest.mark.parametrize("url", [f"http://:{PASSWORD}@host/", f"redis+x://{PASSWORD}", PASSWORD])
def test_an_invalid_url_is_an_error(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RedisCounters(url)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__
