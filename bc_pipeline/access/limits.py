"""Rate limits by key, by address, and by address for requests that fail.

Each limit is a number of requests in a fixed window, aligned to the clock. So in any span as
long as a window a client gets at most twice the limit, around the turn of a window.

Where Redis is set, workers count together: a worker grants itself leases of a fiftieth of
the limit (at most 100 requests), tells Redis in the background, and hears what the others
granted themselves. A window's total is therefore the limit, give or take one lease a worker;
requests that fail are told one by one. While Redis is away each worker counts on with what it
last heard. Without Redis each worker counts alone: N workers allow N times the limit.
"""

from __future__ import annotations

from bc_pipeline.access.addresses import network_of
from bc_pipeline.access.shared_counts import SharedCounts
from bc_pipeline.access.windows import WindowCounter
from bc_pipeline.settings import Settings

_SECONDS = {"second": 1, "minute": 60, "hour": 3600}
_LEASES = 50
_LARGEST_LEASE = 100


class Limiter:
    """Says when it is too much; every method takes well under a microsecond.

    Parameters
    ----------
    key, address, failures : str
        Rates such as ``120/minute``, as the settings write them.

    Attributes
    ----------
    shared : SharedCounts or None
        None where this worker counts alone.
    """

    def __init__(
        self, key: str, address: str, failures: str, shared: SharedCounts | None = None
    ) -> None:
        self.shared = shared
        self._keys = _counter("key", key, shared)
        self._addresses = _counter("address", address, shared)
        self._failures = _counter("failures", failures, shared, lease=1)

    @classmethod
    def of(cls, settings: Settings) -> Limiter:
        url = settings.redis_url
        return cls(
            settings.rate_limit_key,
            settings.rate_limit_address,
            settings.rate_limit_failures,
            SharedCounts(url.get_secret_value()) if url else None,
        )

    def spend_key(self, key_id: str) -> None:
        """Count a request of a caller, by `Caller.key_id`.

        Raises
        ------
        RateLimited
        """
        self._keys.spend(key_id)

    def spend_address(self, address: str) -> None:
        """Count a request of an address.

        Raises
        ------
        RateLimited
        """
        self._addresses.spend(network_of(address))

    def has_room(self, address: str, key_id: str) -> bool:
        """Whether one more request would be within all limits; counts nothing."""
        network = network_of(address)
        return (
            self._keys.has_room(key_id)
            and self._addresses.has_room(network)
            and self._failures.has_room(network)
        )

    def spend_failure(self, address: str) -> None:
        """Count a request that ended in a refusal.

        Raises
        ------
        RateLimited
            Where there were too many already.
        """
        self._failures.spend(network_of(address))

    def check_failures(self, address: str) -> None:
        """Refuse an address whose requests failed too often, before any work is done.

        Raises
        ------
        RateLimited
        """
        # Where nothing failed lately there is nothing to look up.
        if len(self._failures):
            self._failures.check(network_of(address))

    def close(self) -> None:
        """End the conversation with Redis."""
        if self.shared is not None:
            self.shared.close()


def _counter(
    name: str, rate: str, shared: SharedCounts | None, lease: int | None = None
) -> WindowCounter:
    amount, _, unit = rate.partition("/")
    limit = int(amount)
    if lease is None:
        lease = max(1, min(limit // _LEASES, _LARGEST_LEASE))
    return WindowCounter(name, limit, _SECONDS[unit], lease, shared.tell if shared else None)
