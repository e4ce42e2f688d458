"""Rate limits by key, by address, and by address for requests that fail.

Each limit is a number of requests in a fixed window, aligned to the clock. Any span as long as a
window therefore holds at most twice the limit, where it covers the end of one window and the
start of the next.

With Redis, workers share their counts: a worker grants itself leases of a fiftieth of the limit
(at most 100 requests), reports them to Redis in the background, and learns what the others were
granted. A window's total is the limit, give or take one lease per worker; failed requests are
reported one by one. While Redis is unavailable each worker goes on with the last counts. Without
Redis each worker counts alone: N workers allow N times the limit.
"""

from __future__ import annotations

from bc_pipeline.auth.addresses import network_of
from bc_pipeline.auth.fixed_window import FixedWindowCounter
from bc_pipeline.auth.redis_counters import RedisCounters
from bc_pipeline.settings import Settings

_SECONDS = {"second": 1, "minute": 60, "hour": 3600}
_LEASES = 50
_LARGEST_LEASE = 100


class RateLimiter:
    """Limits requests; every method takes well under a microsecond.

    Parameters
    ----------
    key, address, failures : str
        Rates such as ``120/minute``, as the settings write them.

    Attributes
    ----------
    redis : RedisCounters or None
        None where workers do not share counts.
    """

    def __init__(
        self, key: str, address: str, failures: str, redis: RedisCounters | None = None
    ) -> None:
        self.redis = redis
        self._keys = _counter("key", key, redis)
        self._addresses = _counter("address", address, redis)
        self._failures = _counter("failures", failures, redis, lease=1)

    @classmethod
    def from_settings(cls, settings: Settings) -> RateLimiter:
        url = settings.redis_url
        return cls(
            settings.rate_limit_key,
            settings.rate_limit_address,
            settings.rate_limit_failures,
            RedisCounters(url.get_secret_value()) if url else None,
        )

    def count_key(self, key_id: str) -> None:
        """Count a request of a caller, by `Caller.key_id`.

        Raises
        ------
        RateLimited
        """
        self._keys.count(key_id)

    def count_address(self, address: str) -> None:
        """Count a request of an address.

        Raises
        ------
        RateLimited
        """
        self._addresses.count(network_of(address))

    def charge(self, address: str, key_id: str) -> None:
        """Count a request of an address and a caller: by both limits, or by neither.

        Raises
        ------
        RateLimited
        """
        network = network_of(address)
        self._addresses.count(network)
        try:
            self._keys.count(key_id)
        except Exception:
            self._addresses.give_back(network)
            raise

    def give_back(self, address: str, key_id: str) -> None:
        """Undo a `charge`, for a request that is counted again elsewhere."""
        self._addresses.give_back(network_of(address))
        self._keys.give_back(key_id)

    def count_failure(self, address: str) -> None:
        """Count a request that was refused.

        Raises
        ------
        RateLimited
            Where there were too many before it.
        """
        self._failures.count(network_of(address))

    def check_failures(self, address: str) -> None:
        """Refuse an address whose requests failed too often, before any work is done.

        Raises
        ------
        RateLimited
        """
        # Most services have no failures to look up.
        if len(self._failures):
            self._failures.check(network_of(address))

    def close(self) -> None:
        """Close the connection to Redis."""
        if self.redis is not None:
            self.redis.close()


def _counter(
    name: str, rate: str, redis: RedisCounters | None, lease: int | None = None
) -> FixedWindowCounter:
    amount, _, unit = rate.partition("/")
    limit = int(amount)
    if lease is None:
        lease = max(1, min(limit // _LEASES, _LARGEST_LEASE))
    return FixedWindowCounter(name, limit, _SECONDS[unit], lease, redis.report if redis else None)
