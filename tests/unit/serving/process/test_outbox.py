from __future__ import annotations

import asyncio
from typing import Any

from bc_pipeline.serving.process.outbox import Outbox


class Transport(asyncio.Transport):
    """Notes what is written."""

    def __init__(self, written: list[bytes], *, closing: bool = False) -> None:
        super().__init__()
        self._written = written
        self._closing = closing

    def write(self, data: Any) -> None:
        assert not self._closing
        self._written.append(bytes(data))

    def is_closing(self) -> bool:
        return self._closing


def test_answers_are_written_in_order_when_what_is_due_has_run() -> None:
    async def run() -> list[bytes]:
        written: list[bytes] = []
        loop = asyncio.get_running_loop()
        outbox, first, second = Outbox(loop), Transport(written), Transport(written)
        loop.call_soon(outbox.put, first, b"1")
        loop.call_soon(outbox.put, second, b"2")
        loop.call_soon(outbox.put, first, b"3")
        loop.call_soon(lambda: written.append(b"last of the turn"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outbox.put(first, b"4")
        await asyncio.sleep(0)
        return written

    assert asyncio.run(run()) == [b"last of the turn", b"1", b"2", b"3", b"4"]


def test_what_waits_can_be_written_at_once_and_is_written_once() -> None:
    async def run() -> list[bytes]:
        written: list[bytes] = []
        outbox = Outbox(asyncio.get_running_loop())
        outbox.put(Transport(written), b"1")
        outbox.flush()
        assert written == [b"1"]
        await asyncio.sleep(0)
        outbox.flush()
        return written

    assert asyncio.run(run()) == [b"1"]


def test_a_client_that_has_left_keeps_nobody_from_an_answer() -> None:
    async def run() -> list[bytes]:
        written: list[bytes] = []
        outbox = Outbox(asyncio.get_running_loop())
        outbox.put(Transport(written, closing=True), b"1")
        outbox.put(Transport(written), b"2")
        outbox.flush()
        return written

    assert asyncio.run(run()) == [b"2"]
