from __future__ import annotations

import asyncio
from typing import Any

from bc_pipeline.server.write_batcher import WriteBatcher


class Transport(asyncio.Transport):
    """Records its writes."""

    def __init__(self, written: list[bytes], *, closing: bool = False) -> None:
        super().__init__()
        self._written = written
        self._closing = closing

    def write(self, data: Any) -> None:
        assert not self._closing
        self._written.append(bytes(data))

    def is_closing(self) -> bool:
        return self._closing


def test_answers_are_written_in_order_after_the_due_callbacks() -> None:
    async def run() -> list[bytes]:
        written: list[bytes] = []
        loop = asyncio.get_running_loop()
        write_batcher, first, second = WriteBatcher(loop), Transport(written), Transport(written)
        loop.call_soon(write_batcher.put, first, b"1")
        loop.call_soon(write_batcher.put, second, b"2")
        loop.call_soon(write_batcher.put, first, b"3")
        loop.call_soon(lambda: written.append(b"last callback"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        write_batcher.put(first, b"4")
        await asyncio.sleep(0)
        return written

    assert asyncio.run(run()) == [b"last callback", b"1", b"2", b"3", b"4"]


def test_flush_writes_at_once_and_once() -> None:
    async def run() -> list[bytes]:
        written: list[bytes] = []
        write_batcher = WriteBatcher(asyncio.get_running_loop())
        write_batcher.put(Transport(written), b"1")
        write_batcher.flush()
        assert written == [b"1"]
        await asyncio.sleep(0)
        write_batcher.flush()
        return written

    assert asyncio.run(run()) == [b"1"]


def test_a_closed_connection_does_not_prevent_other_answers() -> None:
    async def run() -> list[bytes]:
        written: list[bytes] = []
        write_batcher = WriteBatcher(asyncio.get_running_loop())
        write_batcher.put(Transport(written, closing=True), b"1")
        write_batcher.put(Transport(written), b"2")
        write_batcher.flush()
        return written

    assert asyncio.run(run()) == [b"2"]
