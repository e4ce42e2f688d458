from __future__ import annotations

import asyncio
import threading
import time

import pytest

from bc_pipeline.errors import AirflowAway, AirflowRefused
from bc_pipeline.serving.airflow_calls import MAX_WAITING, THREADS, AirflowCalls


def test_a_call_gives_its_result_or_its_error() -> None:
    def fail() -> None:
        raise AirflowRefused("No.")

    async def ask() -> int:
        calls = AirflowCalls()
        with pytest.raises(AirflowRefused):
            await calls.run(fail)
        return await calls.run(lambda: 5)

    assert asyncio.run(ask()) == 5


def test_what_waits_too_long_is_never_begun_and_what_is_too_much_is_refused_at_once() -> None:
    released, begun = threading.Event(), []

    def call() -> None:
        begun.append(1)
        released.wait()

    async def ask() -> None:
        calls = AirflowCalls(0.3)
        waiting = [asyncio.ensure_future(calls.run(call)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0.05)
        started = time.monotonic()
        with pytest.raises(AirflowAway):
            await calls.run(call)
        assert time.monotonic() - started < 0.2
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(answer) for answer in answers} == {AirflowAway}
        released.set()
        # The threads are free again, and so is the room.
        await asyncio.gather(*(calls.run(lambda: None) for _ in range(MAX_WAITING)))
        calls.close()

    asyncio.run(ask())
    assert len(begun) == THREADS
