"""Loops that go on for ever: what goes wrong in one turn is told, and the next is tried.

A task that ends by an exception ends without a word: keys that are revoked would go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog


class Turns:
    """The turns of one loop.

    Parameters
    ----------
    loop : str
        What the loop is called in the log.
    """

    def __init__(self, loop: str) -> None:
        self._loop = loop
        self._fault = ""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let nothing out but what ends the loop on purpose; tell each fault once."""
        try:
            yield
        except Exception as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            if reason != self._fault:
                self._fault = reason
                with suppress(Exception):
                    structlog.get_logger().error("turn_failed", loop=self._loop, reason=reason)
        else:
            self._fault = ""
