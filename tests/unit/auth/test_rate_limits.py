from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.auth import fixed_window
from bc_pipeline.auth.fixed_window import FixedWindowCounter
from bc_pipeline.auth.rate_limits import RateLimiter
from bc_pipeline.errors import RateLimited
from bc_pipeline.settings import Settings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def limiter(
    key: str = "1000/hour", address: str = "1000/hour", failures: str = "3/minute"
) -> RateLimiter:
    return RateLimiter(key, address, failures)


def accepted(count: Callable[[str], None], identity: str, tries: int) -> int:
    """How many of the attempts were accepted."""
    through = 0
    for _ in range(tries):
        try:
            count(identity)
        except RateLimited:
            continue
        through += 1
    return through


@pytest.mark.parametrize("limit", [1, 2, 49, 50, 51, 99, 120, 10_000])
def test_a_single_worker_accepts_exactly_the_limit(
    limit: int, clock: time_machine.Traveller
) -> None:
    counted = limiter(key=f"{limit}/minute", address=f"{limit}/minute")
    assert accepted(counted.count_key, "a", 2 * limit + 5) == limit
    assert accepted(counted.count_key, "b", 1) == 1
    assert accepted(counted.count_address, "192.0.2.1", 2 * limit + 5) == limit


@pytest.mark.parametrize(("unit", "seconds"), [("second", 1), ("minute", 60), ("hour", 3600)])
def test_requests_are_accepted_again_after_retry_after(
    unit: str, seconds: int, clock: time_machine.Traveller
) -> None:
    counted = limiter(key=f"2/{unit}")
    clock.shift(timedelta(seconds=0.3 * seconds))
    assert accepted(counted.count_key, "a", 2) == 2
    with pytest.raises(RateLimited) as caught:
        counted.count_key("a")
    assert 0.7 * seconds <= caught.value.retry_after <= max(1, 0.71 * seconds)
    assert caught.value.kind == "key"
    clock.shift(timedelta(seconds=caught.value.retry_after))
    assert accepted(counted.count_key, "a", 3) == 2


def test_two_windows_accept_twice_the_limit_at_most(
    clock: time_machine.Traveller,
) -> None:
    counted = limiter(key="100/minute")
    clock.shift(timedelta(seconds=59))
    through = 0
    for _ in range(61):
        through += accepted(counted.count_key, "a", 500)
        clock.shift(timedelta(seconds=1))
    assert through == 200


@given(
    limit=st.integers(1, 200),
    steps=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 150)), max_size=20),
)
def test_no_window_accepts_more_than_the_limit(limit: int, steps: list[tuple[float, int]]) -> None:
    counted = limiter(key=f"{limit}/minute")
    accepted_by_window: dict[int, int] = {}
    attempts: dict[int, int] = {}
    with time_machine.travel(NOW, tick=False) as clock:
        for wait, tries in steps:
            clock.shift(timedelta(seconds=wait))
            index = int(datetime.now(UTC).timestamp() // 60)
            accepted_by_window[index] = accepted_by_window.get(index, 0) + accepted(
                counted.count_key, "a", tries
            )
            attempts[index] = attempts.get(index, 0) + tries
    assert accepted_by_window == {index: min(count, limit) for index, count in attempts.items()}


def test_setting_the_clock_back_locks_no_identity_out(clock: time_machine.Traveller) -> None:
    counted = limiter(key="2/minute")
    assert accepted(counted.count_key, "a", 5) == 2
    clock.shift(timedelta(days=-1))
    assert accepted(counted.count_key, "a", 5) == 2


def test_an_address_with_too_many_failures_is_refused(clock: time_machine.Traveller) -> None:
    counted = limiter(failures="3/minute")
    counted.check_failures("192.0.2.1")
    for _ in range(3):
        counted.check_failures("192.0.2.1")
        counted.count_failure("192.0.2.1")
    for _ in range(5):
        with pytest.raises(RateLimited) as caught:
            counted.check_failures("192.0.2.1")
    assert (caught.value.kind, caught.value.retry_after) == ("failures", 60)
    with pytest.raises(RateLimited):
        counted.count_failure("192.0.2.1")
    counted.check_failures("192.0.2.2")
    clock.shift(timedelta(seconds=60))
    counted.check_failures("192.0.2.1")
    assert len(counted._failures) == 0


def test_an_ipv6_network_shares_one_limit(clock: time_machine.Traveller) -> None:
    counted = limiter(address="10/minute", failures="3/minute")
    through = sum(accepted(counted.count_address, f"2001:db8::{n:x}", 1) for n in range(1, 100))
    assert through == 10
    for number in range(3):
        counted.count_failure(f"2001:db8::{number:x}")
    with pytest.raises(RateLimited):
        counted.check_failures("2001:db8::ffff")


def test_the_oldest_identity_is_dropped(
    clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixed_window, "_TRACKED", 100)
    counter = FixedWindowCounter("key", 1, 60, 1)
    for number in range(1000):
        counter.count(f"client-{number}")
    assert len(counter) == 100
    assert accepted(counter.count, "client-999", 1) == 0
    assert accepted(counter.count, "client-0", 1) == 1


def test_the_defaults(settings: Settings) -> None:
    counted = RateLimiter.from_settings(settings)
    assert counted.redis is None
    assert accepted(counted.count_key, "a", 59_000) == 59_000
    counted.close()


def test_counting_takes_microseconds() -> None:
    """Generous, for busy machines; a trip to a shared storage would show all the same."""
    counted = limiter(key="100000000/hour", address="100000000/hour")
    for call in (
        lambda: counted.count_key("a"),
        lambda: counted.count_address("192.0.2.1"),
        lambda: counted.check_failures("192.0.2.1"),
    ):
        assert min(timeit.repeat(call, number=5000, repeat=5)) / 5000 < 5e-6
