"""Keep a background loop alive: an exception in one iteration is logged, and the loop goes on.

A task that ends by an exception ends silently; revoked keys, for one, would stay accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import structlog


class BackgroundLoop:
    """Guards the iterations of one loop.

    Parameters
    ----------
    name : str
        Name of the loop in the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reason = ""

    async def run(self, seconds: float, action: Callable[[], Awaitable[None] | None]) -> None:
        """Wait and act, again and again, until the task is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            with self.iteration():
                awaitable = action()
                if awaitable is not None:
                    await awaitable

    @contextmanager
    def iteration(self) -> Iterator[None]:
        """Log an exception unless the last iteration failed for the same reason.

        Cancellation and exits pass through.
        """
        try:
            yield
        except Exception as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            if reason != self._reason:
                self._reason = reason
                with suppress(Exception):
                    structlog.get_logger().error(
                        "background_loop_failed", loop=self._name, reason=reason
                    )
        else:
            self._reason = ""
