"""An issuer of tokens, and a scrape of a service that has seen everything it counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bc_pipeline.auth.api_keys import import_key
from bc_pipeline.prediction_log.status import OutcomeCounts, RecentOutcomes, Status, write_status
from bc_pipeline.serving.app import create_app
from tests.unit.auth.conftest import Issuer, PrivateKeys

SCRAPE_KEY = "canary-key-that-must-not-be-told"
CANARY = "canary-value"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    issuer = Issuer(PrivateKeys.generate())
    yield issuer
    issuer.close()


@pytest.fixture(scope="session")
def exposition(
    tmp_path_factory: pytest.TempPathFactory,
    releases_in: Callable[[Path], Any],
    fitted: Any,
    reference: Any,
    wdbc: Any,
) -> dict[str, str]:
    """The text by media type, of the same service."""
    releases = releases_in(tmp_path_factory.mktemp("scraped"))
    settings = releases.settings.model_copy(update={"rate_limit_failures": "3/hour"})
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    import_key(settings.service_keys, "tests", ["admin"], SCRAPE_KEY)
    row = reference[0][0].tolist()
    unusual = list(row)
    position = wdbc.schema.names.index("smoothness_error")
    unusual[position] = float(reference[0][:, position].max()) * 1.01
    key = {"X-API-Key": SCRAPE_KEY}

    async def main() -> dict[str, str]:
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            services = app.state.services
            stranger = _client(app, "192.0.2.99")
            async with _client(app, "192.0.2.1") as client, stranger:
                for sent in ({"features": row, "id": CANARY}, {"features": unusual}):
                    answer = await client.post("/v1/predict", json=sent, headers=key)
                    assert answer.status_code == 200
                await client.post("/v1/predict", json={CANARY: CANARY}, headers=key)
                for _ in range(5):
                    await stranger.get(f"/{CANARY}?{CANARY}", headers={"X-API-Key": CANARY})
                await client.post("/v1/predict", json={}, headers={"X-API-Key": CANARY})
                releases.promote("v1", "0" * 64)
                services.model_watcher.refresh()
                write_status(
                    settings.records,
                    Status(
                        "ok",
                        since=time.time(),
                        outcomes={"v1": OutcomeCounts(1, 1, 1, 1)},
                        recent_outcomes={"v1": RecentOutcomes(1, 1, 1, 1, 2.0)},
                        written_at=time.time(),
                    ),
                )
                found = {}
                for kind in ("text/plain", "application/openmetrics-text", "application/json"):
                    answer = await client.get("/metrics", headers=key | {"Accept": kind})
                    assert answer.status_code == 200
                    found[kind] = answer.text
                return found

    return asyncio.run(main())


def _client(app: Any, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://service")
