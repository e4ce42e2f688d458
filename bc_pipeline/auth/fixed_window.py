"""Count requests in fixed windows; workers share the counts by leases."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from bc_pipeline.errors import RateLimited

_TRACKED = 20_000


@dataclass(slots=True, eq=False)
class Window:
    """Requests of one identity in the current window.

    Attributes
    ----------
    index : int
        Number of the window since 1970, the same in every worker.
    end : float
        Seconds since 1970.
    remaining : int
        Requests left of the current lease.
    granted : int
        Requests of all leases in this window.
    reported : int
        How many of the granted requests Redis has confirmed.
    others : int
        Requests granted to other workers, by Redis's last answer.
    """

    identity: str
    index: int
    end: float
    remaining: int = 0
    granted: int = 0
    reported: int = 0
    others: int = 0


class FixedWindowCounter:
    """At most `limit` requests of an identity in each window of `period` seconds.

    Requests are granted in leases; only the grant of a lease is reported.

    Parameters
    ----------
    report : callable, optional
        Called with the counter and the window of a new lease; must return at once.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        period: int,
        lease: int,
        report: Callable[[FixedWindowCounter, Window], None] | None = None,
    ) -> None:
        self.name = name
        self.limit = limit
        self.period = period
        self._lease = lease
        self._report = report
        self._windows: dict[str, Window] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def count(self, identity: str) -> None:
        """Count one request.

        Raises
        ------
        RateLimited
        """
        now = time.time()
        window = self._windows.get(identity)
        if window is not None and window.remaining > 0 and now < window.end:
            window.remaining -= 1
            return
        self._grant(identity, window, now)

    def give_back(self, identity: str) -> None:
        """Undo one `count` of the current window."""
        window = self._windows.get(identity)
        if window is not None and window.remaining < window.granted:
            window.remaining += 1

    def has_capacity(self, identity: str) -> bool:
        """Whether an identity may send another request; counts nothing."""
        window = self._windows.get(identity)
        if window is None:
            return True
        if self._is_over(window, time.time()):
            del self._windows[identity]
            return True
        return window.granted - window.remaining + window.others < self.limit

    def check(self, identity: str) -> None:
        """Refuse an identity that has reached the limit; counts nothing.

        Raises
        ------
        RateLimited
        """
        if not self.has_capacity(identity):
            self._refuse(self._windows[identity], time.time())

    def _grant(self, identity: str, window: Window | None, now: float) -> None:
        if window is None or self._is_over(window, now):
            window = self._open(identity, now)
        capacity = self.limit - window.granted - window.others
        if capacity <= 0:
            self._refuse(window, now)
        lease = min(self._lease, capacity)
        window.granted += lease
        window.remaining = lease - 1
        if self._report is not None:
            self._report(self, window)

    def _open(self, identity: str, now: float) -> Window:
        index = int(now // self.period)
        window = Window(identity, index, (index + 1) * self.period)
        # Dictionaries keep insertion order: the oldest window is dropped first.
        self._windows.pop(identity, None)
        while len(self._windows) >= _TRACKED:
            del self._windows[next(iter(self._windows))]
        self._windows[identity] = window
        return window

    def _is_over(self, window: Window, now: float) -> bool:
        # After a clock is set back, no identity stays locked out for longer than a window.
        return not 0 < window.end - now <= self.period

    def _refuse(self, window: Window, now: float) -> None:
        raise RateLimited(
            "Too many requests.",
            "Wait as long as Retry-After says.",
            retry_after=max(1, math.ceil(window.end - now)),
            kind=self.name,
        )
