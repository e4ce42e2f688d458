"""Access log lines: their content, when they are written, and their cost."""

from __future__ import annotations

import asyncio
import io
import json
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from bc_pipeline.auth.callers import Caller
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.request_context import RequestContext
from bc_pipeline.serving.telemetry.access_log import QUIET_ROUTES, AccessLog
from bc_pipeline.settings import Settings
from tests.cpu_time import cpu_cost
from tests.waiting import PATIENCE


def answered(route: str = "/v1/predict", status: int = 200) -> RequestContext:
    context = RequestContext("192.0.2.7")
    context.route, context.status, context.model = route, status, "v1"
    context.caller = Caller("ward-4", "k1", frozenset())
    return context


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def in_loop(work: Callable[[], Any]) -> None:
    async def main() -> None:
        work()

    asyncio.run(main())


def test_the_fields_of_a_line() -> None:
    stream = io.BytesIO()
    log, context = AccessLog(stream=stream), answered()
    in_loop(lambda: (log.write(context, "POST", 0.00123449), log.flush()))
    (line,) = lines(stream)
    moment = line.pop("timestamp")
    assert moment.endswith("Z")
    assert len(moment) == len("2026-11-15T00:00:00.000000Z")
    assert line == {
        "event": "request",
        "request": context.id,
        "method": "POST",
        "path": "/v1/predict",
        "status": 200,
        "ms": 1.234,
        "client": "192.0.2.7",
        "caller": "ward-4",
        "model": "v1",
        "level": "info",
    }


def test_lines_are_written_together_after_a_short_wait() -> None:
    flushed = asyncio.Event()

    class Stream(io.BytesIO):
        def flush(self) -> None:
            flushed.set()

    stream = Stream()
    log = AccessLog(stream=stream)

    async def main() -> None:
        log.write(answered(), "POST", 0.001)
        log.write(answered(), "POST", 0.001)
        assert stream.getvalue() == b""
        await asyncio.wait_for(flushed.wait(), PATIENCE)
        assert len(lines(stream)) == 2
        # The timer starts again with the next line.
        flushed.clear()
        log.write(answered(), "POST", 0.001)
        await asyncio.wait_for(flushed.wait(), PATIENCE)

    asyncio.run(main())
    assert len(lines(stream)) == 3


@pytest.mark.parametrize("route", sorted(QUIET_ROUTES))
def test_probes_are_logged_only_when_they_fail(route: str) -> None:
    stream = io.BytesIO()
    log = AccessLog(stream=stream)
    in_loop(
        lambda: (
            log.write(answered(route, 200), "GET", 0.001),
            log.write(answered(route, 503), "GET", 0.001),
            log.flush(),
        )
    )
    assert [line["status"] for line in lines(stream)] == [503]


@pytest.mark.parametrize(
    ("level", "written"),
    [("DEBUG", ["/livez", "/"]), ("INFO", ["/"]), ("WARNING", []), ("ERROR", [])],
)
def test_the_log_level_decides_what_is_written(
    level: str, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO()
    log = AccessLog(level)
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(stream))
    in_loop(
        lambda: (
            log.write(answered("/livez"), "GET", 0.001),
            log.write(answered("/"), "GET", 0.001),
            log.flush(),
        )
    )
    assert [line["path"] for line in lines(stream)] == written


def test_lines_are_written_in_groups_that_a_pipe_takes_at_once() -> None:
    class Pipe(io.BytesIO):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def write(self, data: Any) -> int:
            assert data.endswith(b"\n")
            self.sizes.append(len(data))
            return super().write(data)

    stream = Pipe()
    log = AccessLog(stream=stream)
    in_loop(lambda: ([log.write(answered(), "POST", 0.001) for _ in range(200)], log.flush()))
    assert len(lines(stream)) == 200
    assert max(stream.sizes) <= select.PIPE_BUF
    assert len(stream.sizes) < 20


def test_a_line_longer_than_pipe_buf_is_still_written() -> None:
    stream = io.BytesIO()
    log, context = AccessLog(stream=stream), answered()
    context.client = "x" * (2 * select.PIPE_BUF)
    in_loop(
        lambda: (log.write(context, "GET", 0.001), log.write(answered(), "GET", 0), log.flush())
    )
    assert [len(line["client"]) for line in lines(stream)] == [2 * select.PIPE_BUF, 9]


def test_a_closed_pipe_raises_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with io.FileIO(writing, "w") as stream:
        log = AccessLog(stream=stream)
        in_loop(lambda: (log.write(answered(), "GET", 0.001), log.flush()))


def test_writing_a_line_is_cheap(tmp_path: Path) -> None:
    costs: list[float] = []
    with (tmp_path / "log").open("wb") as stream:
        log, context = AccessLog(stream=stream), answered()
        in_loop(
            lambda: costs.append(cpu_cost(lambda: log.write(context, "POST", 0.001), number=2048))
        )
    # 2.5 when measured, which was 1.6 microseconds, writing to the file included.
    assert costs[0] < 6


def test_the_service_writes_waiting_lines_when_it_stops(
    settings: Settings, api_key: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    app = create_app(settings)

    async def main() -> None:
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://s") as client:
                await client.get("/canary-path?canary=query", headers={"X-Canary": "canary"})

    asyncio.run(main())
    log = capsysbinary.readouterr().err
    (line,) = [json.loads(text) for text in log.splitlines() if b'"event":"request"' in text]
    assert (line["path"], line["status"]) == ("(other)", 404)
    assert b"canary" not in log
