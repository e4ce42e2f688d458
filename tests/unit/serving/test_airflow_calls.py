from __future__ import annotations

import asyncio
import threading

import pytest

from bc_pipeline.errors import AirflowAway, AirflowRefused
from bc_pipeline.serving.airflow_calls import MAX_WAITING, THREADS, AirflowCalls


def test_a_call_returns_its_result_or_raises_its_error() -> None:
    def fail() -> None:
        raise AirflowRefused("No.")

    async def ask() -> int:
        calls = AirflowCalls()
        with pytest.raises(AirflowRefused):
            await calls.run(fail)
        return await calls.run(lambda: 5)

    assert asyncio.run(ask()) == 5


def test_calls_that_time_out_while_queued_never_start_and_a_full_queue_refuses() -> None:
    released, started_calls = threading.Event(), []

    def call() -> None:
        started_calls.append(1)
        released.wait()

    async def ask() -> None:
        calls = AirflowCalls(1.0)
        waiting = [asyncio.ensure_future(calls.run(call)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0.05)
        with pytest.raises(AirflowAway):
            await calls.run(call)
        # Refused at once: none of the calls before it has timed out.
        assert not any(future.done() for future in waiting)
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(answer) for answer in answers} == {AirflowAway}
        released.set()
        # The threads and the queue are free again.
        await asyncio.gather(*(calls.run(lambda: None) for _ in range(MAX_WAITING)))
        calls.close()

    asyncio.run(ask())
    assert len(started_calls) == THREADS
