"""Calls of Airflow in a small thread pool of their own, with a time limit.

A slow Airflow blocks only these threads, and each client gets an answer within the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bc_pipeline.errors import AirflowAway

T = TypeVar("T")
THREADS = 4
# Calls that run or wait; further ones are refused immediately.
MAX_WAITING = 16
SECONDS = 8.0
TRY_AGAIN = "Try again."


class AirflowCalls:
    """The thread pool of one worker.

    Parameters
    ----------
    seconds : float
        Limit for one call, the wait for a free thread included.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="airflow")
        self._waiting = 0

    async def run(self, call: Callable[[], T], remedy: str = TRY_AGAIN) -> T:
        """Run a call in a thread.

        Parameters
        ----------
        remedy : str
            Advice for a client whose call failed.

        Raises
        ------
        AirflowAway
            Where the call takes too long, or too many others wait. A call that has started
            continues in its thread.
        """
        if self._waiting >= MAX_WAITING:
            raise AirflowAway("Too many requests wait for Airflow.", remedy)
        self._waiting += 1
        try:
            # Cancelling stops only a call that has not started yet.
            return await asyncio.wait_for(
                asyncio.get_running_loop().run_in_executor(self._threads, call), self._seconds
            )
        except TimeoutError:
            raise AirflowAway("Airflow does not answer in time.", remedy) from None
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Start no further call, and do not wait for running ones."""
        self._threads.shutdown(wait=False, cancel_futures=True)
