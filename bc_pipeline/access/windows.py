"""Counting requests in fixed windows: on the spot, and told to others by the lease."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from bc_pipeline.errors import RateLimited

_TRACKED = 20_000


@dataclass(slots=True, eq=False)
class Window:
    """What one identity has spent in the present window.

    Attributes
    ----------
    index : int
        Number of the window since 1970, the same in every worker.
    end : float
        Seconds since 1970.
    left : int
        Of the present lease.
    granted : int
        All leases of this window.
    told : int
        How much of it others were told, with their answer in.
    elsewhere : int
        What others had been granted, by the last answer.
    """

    identity: str
    index: int
    end: float
    left: int = 0
    granted: int = 0
    told: int = 0
    elsewhere: int = 0


class WindowCounter:
    """At most `limit` requests of an identity in each window of `period` seconds.

    Permits are granted by the lease and counted down; only the grant of a lease is told.

    Parameters
    ----------
    tell : callable, optional
        Gets the counter and a window of which a lease was granted; must return at once.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        period: int,
        lease: int,
        tell: Callable[[WindowCounter, Window], None] | None = None,
    ) -> None:
        self.name = name
        self.limit = limit
        self.period = period
        self._lease = lease
        self._tell = tell
        self._windows: dict[str, Window] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def spend(self, identity: str) -> None:
        """Count one request.

        Raises
        ------
        RateLimited
        """
        now = time.time()
        window = self._windows.get(identity)
        if window is not None and window.left > 0 and now < window.end:
            window.left -= 1
            return
        self._grant(identity, window, now)

    def has_room(self, identity: str) -> bool:
        """Whether an identity has anything left; counts nothing."""
        window = self._windows.get(identity)
        if window is None:
            return True
        if self._is_over(window, time.time()):
            del self._windows[identity]
            return True
        return window.granted - window.left + window.elsewhere < self.limit

    def check(self, identity: str) -> None:
        """Refuse an identity that has nothing left; counts nothing.

        Raises
        ------
        RateLimited
        """
        if not self.has_room(identity):
            self._refuse(self._windows[identity], time.time())

    def _grant(self, identity: str, window: Window | None, now: float) -> None:
        if window is None or self._is_over(window, now):
            window = self._open(identity, now)
        room = self.limit - window.granted - window.elsewhere
        if room <= 0:
            self._refuse(window, now)
        lease = min(self._lease, room)
        window.granted += lease
        window.left = lease - 1
        if self._tell is not None:
            self._tell(self, window)

    def _open(self, identity: str, now: float) -> Window:
        index = int(now // self.period)
        window = Window(identity, index, (index + 1) * self.period)
        # Insertion order is the order of age: the oldest window is forgotten first.
        self._windows.pop(identity, None)
        while len(self._windows) >= _TRACKED:
            del self._windows[next(iter(self._windows))]
        self._windows[identity] = window
        return window

    def _is_over(self, window: Window, now: float) -> bool:
        # A clock that was set back must not lock anybody out for longer than a window.
        return not 0 < window.end - now <= self.period

    def _refuse(self, window: Window, now: float) -> None:
        raise RateLimited(
            "Too many requests.",
            "Wait as long as Retry-After says.",
            retry_after=max(1, math.ceil(window.end - now)),
            kind=self.name,
        )
