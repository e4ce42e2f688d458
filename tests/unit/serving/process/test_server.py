from __future__ import annotations

import asyncio

import pytest

from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.process.protocol import Protocol
from bc_pipeline.serving.process.server import Server
from bc_pipeline.settings import Settings


@pytest.mark.usefixtures("api_key")
def test_no_connection_keeps_the_others_from_being_swept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"slow_client_seconds": 0.04})
    app = create_app(settings)

    async def run() -> list[int]:
        server = Server(app, settings, lambda: None)
        server.config.load()
        swept: list[int] = []

        def connection(number: int) -> Protocol:
            made = Protocol(config=server.config, server_state=server.server_state, app_state={})

            def sweep(now: float, limit: float) -> None:
                swept.append(number)
                raise RuntimeError

            monkeypatch.setattr(made, "sweep", sweep)
            return made

        server.server_state.connections.update(connection(number) for number in range(2))
        sweeping = asyncio.create_task(server._sweep_now_and_then())
        await asyncio.sleep(0.3)
        assert not sweeping.done()
        sweeping.cancel()
        return swept

    try:
        swept = asyncio.run(run())
    finally:
        app.state.services.spool.close()
        app.state.services.limiter.close()
    assert swept.count(0) > 1
    assert swept.count(1) > 1
