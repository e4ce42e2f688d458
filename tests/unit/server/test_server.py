from __future__ import annotations

import asyncio

import pytest

from bc_pipeline.server.http_protocol import HttpProtocol
from bc_pipeline.server.server import Server
from bc_pipeline.settings import Settings
from tests.unit.server.plain_application import PlainApplication


def test_an_error_of_one_connection_does_not_stop_the_timeouts_of_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"slow_client_seconds": 0.04})
    app = PlainApplication()

    async def run() -> list[int]:
        server = Server(app, settings, lambda: None)
        server.config.load()
        checked: list[int] = []

        def make_connection(number: int) -> HttpProtocol:
            connection = HttpProtocol(
                render_error=app.protocol_error,
                config=server.config,
                server_state=server.server_state,
                app_state={},
            )

            def check_timeout(now: float, limit: float) -> None:
                checked.append(number)
                raise RuntimeError

            monkeypatch.setattr(connection, "check_timeout", check_timeout)
            return connection

        server.server_state.connections.update(make_connection(number) for number in range(2))
        timers = asyncio.create_task(server._run_timers())
        await asyncio.sleep(0.3)
        assert not timers.done()
        timers.cancel()
        return checked

    checked = asyncio.run(run())
    assert checked.count(0) > 1
    assert checked.count(1) > 1
