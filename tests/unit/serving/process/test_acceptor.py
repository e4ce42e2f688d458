from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from bc_pipeline.serving.process.acceptor import Acceptor, Shares

PATIENCE = 1.0


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("shares")
    os.pwrite(descriptor, bytes(8), 0)
    yield descriptor
    os.close(descriptor)


class Connection(asyncio.Protocol):
    """Stands in `there` while it is open."""

    def __init__(self, there: set[Connection]) -> None:
        self._there = there

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._there.add(self)

    def close(self) -> None:
        self.transport.close()


def test_shares_are_seen_by_the_others(memory: int) -> None:
    first, second = Shares(memory, 0, 2), Shares(memory, 1, 2)
    assert first.is_ahead(2)
    assert not second.is_ahead(2)
    assert second.is_ahead(3)
    second.end()
    assert not first.is_ahead(100)


async def _listen(there: set[Connection], shares: Shares | None) -> tuple[Acceptor, socket.socket]:
    listener = socket.create_server(("127.0.0.1", 0))
    acceptor = Acceptor(
        listener, lambda: Connection(there), there, shares=shares, patience=PATIENCE
    )
    acceptor.start(100)
    return acceptor, listener


def _close(clients: list[socket.socket], there: set[Connection]) -> None:
    for client in clients:
        client.close()
    for connection in there:
        connection.close()


def test_a_worker_takes_alone_what_an_idle_one_leaves(memory: int) -> None:
    async def run() -> None:
        there: set[Connection] = set()
        # The other has no connection and takes none.
        acceptor, listener = await _listen(there, Shares(memory, 0, 2))
        clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
        async with asyncio.timeout(5):
            while len(there) < len(clients):
                await asyncio.sleep(0.01)
        acceptor.close()
        await acceptor.finish()
        _close(clients, there)
        await asyncio.sleep(0)

    asyncio.run(run())


def test_the_end_takes_what_waits(memory: int) -> None:
    async def run() -> None:
        there: set[Connection] = set()
        acceptor, listener = await _listen(there, None)
        # The loop gets no turn in between.
        clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        address = listener.getsockname()
        acceptor.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        await acceptor.finish()
        assert len(there) == len(clients)
        _close(clients, there)
        await asyncio.sleep(0)

    asyncio.run(run())


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """The process may open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_full_table_of_open_files_costs_a_few_tries_and_one_line() -> None:
    async def run() -> None:
        there: set[Connection] = set()
        acceptor, listener = await _listen(there, None)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        with structlog.testing.capture_logs() as events, no_more_descriptors():
            before = time.process_time()
            await asyncio.sleep(1)
            assert time.process_time() - before < 0.2
        assert [event["event"] for event in events] == ["connection_not_taken"]
        async with asyncio.timeout(5):
            while len(there) < len(clients):
                await asyncio.sleep(0.01)
        acceptor.close()
        await acceptor.finish()
        _close(clients, there)
        await asyncio.sleep(0)

    asyncio.run(run())


def test_the_end_comes_though_nothing_can_be_taken() -> None:
    async def run() -> None:
        there: set[Connection] = set()
        acceptor, listener = await _listen(there, None)
        client = socket.create_connection(listener.getsockname())
        with structlog.testing.capture_logs() as events:
            with no_more_descriptors():
                acceptor.close()
            # Nothing is tried again on a socket that is closed.
            await asyncio.sleep(0.3)
        assert [event["event"] for event in events] == ["connection_not_taken"]
        assert not there
        client.close()

    asyncio.run(run())
