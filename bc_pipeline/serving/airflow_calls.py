"""Calls of Airflow beside the event loop, in threads that nothing else waits for.

However slow Airflow is, it holds these few threads and no other, and a client that asks is
answered in a bounded time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bc_pipeline.errors import AirflowAway

T = TypeVar("T")
THREADS = 4
# With those that are being answered; more are refused at once.
MAX_WAITING = 16
SECONDS = 8.0
TRY_AGAIN = "Try again."


class AirflowCalls:
    """The threads of one worker.

    Parameters
    ----------
    seconds : float
        A client waits so long at most, for a free thread and for Airflow together.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="airflow")
        self._waiting = 0

    async def run(self, call: Callable[[], T], remedy: str = TRY_AGAIN) -> T:
        """Make a call in a thread.

        Parameters
        ----------
        remedy : str
            What a client may do where it has no answer.

        Raises
        ------
        AirflowAway
            Where it takes too long, or too many others wait. A call that was begun goes on.
        """
        if self._waiting >= MAX_WAITING:
            raise AirflowAway("Too many wait for Airflow.", remedy)
        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        self._waiting += 1
        future.add_done_callback(self._done)
        done, _ = await asyncio.wait([future], timeout=self._seconds)
        if not done:
            # One that has not begun never does; the end of one that has is awaited by nobody.
            future.cancel()
            raise AirflowAway("Airflow does not answer in time.", remedy)
        return await future

    def _done(self, future: asyncio.Future[T]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            # Looked at: nobody else may.
            future.exception()

    def close(self) -> None:
        """Begin no other call, and wait for none."""
        self._threads.shutdown(wait=False, cancel_futures=True)
