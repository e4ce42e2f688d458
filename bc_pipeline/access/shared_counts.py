"""Telling Redis what a worker granted, and hearing what the others did, in the background."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from contextlib import suppress
from typing import Any

import structlog

from bc_pipeline.access.windows import Window, WindowCounter
from bc_pipeline.errors import ConfigError

_TIMEOUT_SECONDS = 1.0
_PAUSE_SECONDS = 2.0
# Beyond this Redis is slower than the requests come: what is dropped is told with the next lease.
_WAITING = 10_000


class SharedCounts:
    """Counts that workers share; nothing here makes a request wait.

    Parameters
    ----------
    url : str
        Of Redis; it may hold a password, so it is never shown.

    Attributes
    ----------
    away_since : float or None
        Seconds since 1970; None while Redis answers.

    Raises
    ------
    ConfigError
        Where the URL is none that the library knows.
    """

    def __init__(self, url: str) -> None:
        self._storage = _open(url)
        self._queue: queue.Queue[tuple[WindowCounter, Window] | None] = queue.Queue(_WAITING)
        self._pause_until = 0.0
        self._closing = False
        self.away_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="shared-counts", daemon=True)
        self._thread.start()

    def tell(self, counter: WindowCounter, window: Window) -> None:
        """Have a grant told; returns at once."""
        with suppress(queue.Full):
            self._queue.put_nowait((counter, window))

    def close(self) -> None:
        """Stop; what was not told yet is forgotten."""
        self._closing = True
        # Where the queue is full the thread looks at the flag with the next entry.
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(timeout=3 * _TIMEOUT_SECONDS)
        self._storage.storage.close()

    def _run(self) -> None:
        from redis.exceptions import RedisError

        while (entry := self._queue.get()) is not None and not self._closing:
            if time.monotonic() < self._pause_until:
                continue
            try:
                self._exchange(*entry)
            except (RedisError, OSError) as error:
                self._pause_until = time.monotonic() + _PAUSE_SECONDS
                self._away(type(error).__name__)
            else:
                self._back()

    def _exchange(self, counter: WindowCounter, window: Window) -> None:
        amount = window.granted - window.told
        if not amount:
            return
        # Subjects of tokens and addresses stay out of Redis.
        name = hashlib.blake2b(window.identity.encode(), digest_size=16).hexdigest()
        key = f"{counter.name}/{counter.period}/{window.index}/{name}"
        total = self._storage.incr(key, 2 * counter.period, amount)
        window.elsewhere = max(0, total - window.told - amount)
        window.told += amount

    def _away(self, reason: str) -> None:
        if self.away_since is None:
            self.away_since = time.time()
            structlog.get_logger().error("limits.redis_away", reason=reason)

    def _back(self) -> None:
        if self.away_since is not None:
            self.away_since = None
            structlog.get_logger().info("limits.redis_back")


def _open(url: str) -> Any:
    from limits.errors import ConfigurationError
    from limits.storage import RedisStorage

    try:
        return RedisStorage(
            url,
            key_prefix="bc",
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
        )
    except (ConfigurationError, ValueError):
        raise ConfigError(
            "BC_REDIS_URL is not an address of Redis.",
            "Write it as redis://host:6379/0, or rediss:// for TLS.",
            setting="BC_REDIS_URL",
        ) from None
