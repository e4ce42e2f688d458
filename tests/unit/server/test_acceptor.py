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

from bc_pipeline.server.acceptor import Acceptor, ConnectionCounts
from tests.cpu_time import within_loops
from tests.waiting import PATIENCE

TLS_TIMEOUT = 1.0


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("counts")
    os.pwrite(descriptor, bytes(8), 0)
    yield descriptor
    os.close(descriptor)


class Connection(asyncio.Protocol):
    """Is in `connections` while it is open."""

    def __init__(self, connections: set[Connection]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._connections.add(self)

    def close(self) -> None:
        self.transport.close()


def test_counts_are_shared_between_workers(memory: int) -> None:
    first, second = ConnectionCounts(memory, 0, 2), ConnectionCounts(memory, 1, 2)
    assert first.publish(2)
    assert not second.publish(2)
    assert second.publish(3)
    second.withdraw()
    assert not first.publish(100)


async def _listen(
    connections: set[Connection], counts: ConnectionCounts | None
) -> tuple[Acceptor, socket.socket]:
    listener = socket.create_server(("127.0.0.1", 0))
    acceptor = Acceptor(
        listener,
        lambda: Connection(connections),
        connections,
        counts=counts,
        tls_timeout=TLS_TIMEOUT,
    )
    acceptor.start(100)
    return acceptor, listener


def _close(clients: list[socket.socket], connections: set[Connection]) -> None:
    for client in clients:
        client.close()
    for connection in connections:
        connection.close()


async def _accept_all(
    acceptor: Acceptor, clients: list[socket.socket], connections: set[Connection]
) -> None:
    """Wait until every client is connected, then close everything."""
    async with asyncio.timeout(PATIENCE):
        while len(connections) < len(clients):
            await asyncio.sleep(0.01)
    acceptor.close()
    await acceptor.wait_connected()
    _close(clients, connections)
    await asyncio.sleep(0)


def test_a_worker_accepts_what_an_idle_one_leaves(memory: int) -> None:
    async def run() -> None:
        connections: set[Connection] = set()
        # The other worker has no connection and accepts none.
        acceptor, listener = await _listen(connections, ConnectionCounts(memory, 0, 2))
        clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
        await _accept_all(acceptor, clients, connections)

    asyncio.run(run())


def test_close_accepts_the_backlog(memory: int) -> None:
    async def run() -> None:
        connections: set[Connection] = set()
        acceptor, listener = await _listen(connections, None)
        # The event loop does not run in between.
        clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        address = listener.getsockname()
        acceptor.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        await acceptor.wait_connected()
        assert len(connections) == len(clients)
        _close(clients, connections)
        await asyncio.sleep(0)

    asyncio.run(run())


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Let the process open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_running_out_of_descriptors_costs_few_attempts_and_one_log_line() -> None:
    async def run() -> None:
        connections: set[Connection] = set()
        acceptor, listener = await _listen(connections, None)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        with structlog.testing.capture_logs() as events, no_more_descriptors():
            before = time.process_time()
            await asyncio.sleep(1)
            assert within_loops(time.process_time() - before, 4)
        assert [event["event"] for event in events] == ["accept_failed"]
        await _accept_all(acceptor, clients, connections)

    asyncio.run(run())


def test_close_ends_though_accept_fails() -> None:
    async def run() -> None:
        connections: set[Connection] = set()
        acceptor, listener = await _listen(connections, None)
        client = socket.create_connection(listener.getsockname())
        with structlog.testing.capture_logs() as events:
            with no_more_descriptors():
                acceptor.close()
            # The closed socket is not used again.
            await asyncio.sleep(0.3)
        assert [event["event"] for event in events] == ["accept_failed"]
        assert not connections
        client.close()

    asyncio.run(run())
