"""Share the counts of workers through Redis, in a background thread."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from contextlib import suppress
from typing import Any

import structlog

from bc_pipeline.auth.fixed_window import FixedWindowCounter, Window
from bc_pipeline.errors import ConfigError

_TIMEOUT_SECONDS = 1.0
_RETRY_SECONDS = 2.0
# A full queue drops reports; the next lease reports their requests too.
_QUEUE_LENGTH = 10_000


class RedisCounters:
    """Counts that workers share; no request waits for Redis.

    Parameters
    ----------
    url : str
        Address of Redis; it may hold a password and is never logged.

    Attributes
    ----------
    unavailable_since : float or None
        Seconds since 1970; None while Redis answers.

    Raises
    ------
    ConfigError
        Where the library does not support the URL.
    """

    def __init__(self, url: str) -> None:
        self._storage = _open(url)
        self._queue: queue.Queue[tuple[FixedWindowCounter, Window] | None] = queue.Queue(
            _QUEUE_LENGTH
        )
        self._retry_at = 0.0
        self._closing = False
        self.unavailable_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="shared-counts", daemon=True)
        self._thread.start()

    def report(self, counter: FixedWindowCounter, window: Window) -> None:
        """Queue a report; returns at once."""
        with suppress(queue.Full):
            self._queue.put_nowait((counter, window))

    def close(self) -> None:
        """Stop; queued reports are dropped."""
        self._closing = True
        # If the queue is full the thread sees the flag at its next entry.
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(timeout=3 * _TIMEOUT_SECONDS)
        self._storage.storage.close()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None and not self._closing:
            if time.monotonic() < self._retry_at:
                continue
            try:
                self._synchronize(*entry)
            except Exception as error:
                # Any exception: if this thread ended, counts would not be shared any more.
                self._retry_at = time.monotonic() + _RETRY_SECONDS
                self._on_failure(type(error).__name__)
            else:
                self._on_success()

    def _synchronize(self, counter: FixedWindowCounter, window: Window) -> None:
        amount = window.granted - window.reported
        if not amount:
            return
        # Redis stores neither subjects of tokens nor addresses.
        name = hashlib.blake2b(window.identity.encode(), digest_size=16).hexdigest()
        key = f"{counter.name}/{counter.period}/{window.index}/{name}"
        total = self._storage.incr(key, 2 * counter.period, amount)
        window.others = max(0, total - window.reported - amount)
        window.reported += amount

    def _on_failure(self, reason: str) -> None:
        if self.unavailable_since is None:
            self.unavailable_since = time.time()
            structlog.get_logger().error("limits.redis_unreachable", reason=reason)

    def _on_success(self) -> None:
        if self.unavailable_since is not None:
            self.unavailable_since = None
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
