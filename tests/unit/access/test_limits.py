from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.access import windows
from bc_pipeline.access.limits import Limiter
from bc_pipeline.access.windows import WindowCounter
from bc_pipeline.errors import RateLimited
from bc_pipeline.settings import Settings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def limiter(
    key: str = "1000/hour", address: str = "1000/hour", failures: str = "3/minute"
) -> Limiter:
    return Limiter(key, address, failures)


def spent(spend: Callable[[str], None], identity: str, tries: int) -> int:
    """How many of the tries were let through."""
    through = 0
    for _ in range(tries):
        try:
            spend(identity)
        except RateLimited:
            continue
        through += 1
    return through


@pytest.mark.parametrize("limit", [1, 2, 49, 50, 51, 99, 120, 10_000])
def test_alone_a_worker_lets_exactly_the_limit_through(
    limit: int, clock: time_machine.Traveller
) -> None:
    counted = limiter(key=f"{limit}/minute", address=f"{limit}/minute")
    assert spent(counted.spend_key, "a", 2 * limit + 5) == limit
    assert spent(counted.spend_key, "b", 1) == 1
    assert spent(counted.spend_address, "192.0.2.1", 2 * limit + 5) == limit


@pytest.mark.parametrize(("unit", "seconds"), [("second", 1), ("minute", 60), ("hour", 3600)])
def test_there_is_room_again_when_retry_after_says(
    unit: str, seconds: int, clock: time_machine.Traveller
) -> None:
    counted = limiter(key=f"2/{unit}")
    clock.shift(timedelta(seconds=0.3 * seconds))
    assert spent(counted.spend_key, "a", 2) == 2
    with pytest.raises(RateLimited) as caught:
        counted.spend_key("a")
    assert 0.7 * seconds <= caught.value.retry_after <= max(1, 0.71 * seconds)
    assert caught.value.kind == "key"
    clock.shift(timedelta(seconds=caught.value.retry_after))
    assert spent(counted.spend_key, "a", 3) == 2


def test_around_the_turn_of_a_window_it_is_twice_the_limit_at_most(
    clock: time_machine.Traveller,
) -> None:
    counted = limiter(key="100/minute")
    clock.shift(timedelta(seconds=59))
    through = 0
    for _ in range(61):
        through += spent(counted.spend_key, "a", 500)
        clock.shift(timedelta(seconds=1))
    assert through == 200


@given(
    limit=st.integers(1, 200),
    steps=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 150)), max_size=20),
)
def test_no_window_ever_holds_more_than_the_limit(
    limit: int, steps: list[tuple[float, int]]
) -> None:
    counted = limiter(key=f"{limit}/minute")
    held: dict[int, int] = {}
    asked: dict[int, int] = {}
    with time_machine.travel(NOW, tick=False) as clock:
        for wait, tries in steps:
            clock.shift(timedelta(seconds=wait))
            index = int(datetime.now(UTC).timestamp() // 60)
            held[index] = held.get(index, 0) + spent(counted.spend_key, "a", tries)
            asked[index] = asked.get(index, 0) + tries
    assert held == {index: min(count, limit) for index, count in asked.items()}


def test_a_clock_that_is_set_back_locks_nobody_out(clock: time_machine.Traveller) -> None:
    counted = limiter(key="2/minute")
    assert spent(counted.spend_key, "a", 5) == 2
    clock.shift(timedelta(days=-1))
    assert spent(counted.spend_key, "a", 5) == 2


def test_failures_close_the_door_before_any_work(clock: time_machine.Traveller) -> None:
    counted = limiter(failures="3/minute")
    counted.check_failures("192.0.2.1")
    for _ in range(3):
        counted.check_failures("192.0.2.1")
        counted.spend_failure("192.0.2.1")
    for _ in range(5):
        with pytest.raises(RateLimited) as caught:
            counted.check_failures("192.0.2.1")
    assert (caught.value.kind, caught.value.retry_after) == ("failures", 60)
    with pytest.raises(RateLimited):
        counted.spend_failure("192.0.2.1")
    counted.check_failures("192.0.2.2")
    clock.shift(timedelta(seconds=60))
    counted.check_failures("192.0.2.1")
    assert len(counted._failures) == 0


def test_an_ipv6_client_cannot_move_within_its_network(clock: time_machine.Traveller) -> None:
    counted = limiter(address="10/minute", failures="3/minute")
    through = sum(spent(counted.spend_address, f"2001:db8::{n:x}", 1) for n in range(1, 100))
    assert through == 10
    for number in range(3):
        counted.spend_failure(f"2001:db8::{number:x}")
    with pytest.raises(RateLimited):
        counted.check_failures("2001:db8::ffff")


def test_the_oldest_identity_is_forgotten(
    clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "_TRACKED", 100)
    counter = WindowCounter("key", 1, 60, 1)
    for number in range(1000):
        counter.spend(f"client-{number}")
    assert len(counter) == 100
    assert spent(counter.spend, "client-999", 1) == 0
    assert spent(counter.spend, "client-0", 1) == 1


def test_the_defaults(settings: Settings) -> None:
    counted = Limiter.of(settings)
    assert counted.shared is None
    assert spent(counted.spend_key, "a", 59_000) == 59_000
    counted.close()


def test_counting_costs_next_to_nothing() -> None:
    """Generous, for busy machines; a trip to a shared storage would show all the same."""
    counted = limiter(key="100000000/hour", address="100000000/hour")
    for call in (
        lambda: counted.spend_key("a"),
        lambda: counted.spend_address("192.0.2.1"),
        lambda: counted.check_failures("192.0.2.1"),
    ):
        assert min(timeit.repeat(call, number=5000, repeat=5)) / 5000 < 5e-6
