from __future__ import annotations

from collections.abc import Callable

import pytest

from bc_pipeline.serving.content_negotiation import preferred_type
from bc_pipeline.settings import Settings
from tests.unit.serving.conftest import KEY, Service


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/markdown", "text/markdown"),
        ("TEXT/Markdown; charset=utf-8", "text/markdown"),
        ("text/*", "text/markdown"),
        ("text/markdown;q=0.4, application/json;q=0.5", "application/json"),
        ("text/markdown;q=0.5, */*;q=0.1", "text/markdown"),
        ("text/markdown;q=0", "application/json"),
        ("text/markdown;q=nan, application/json;q=0.1", "application/json"),
        ("text/markdown;q=5, application/json;q=0.1", "application/json"),
        ("image/png", "application/json"),
        (";;,,q=", "application/json"),
    ],
)
def test_the_type_with_the_highest_quality_is_chosen(accept: str, chosen: str) -> None:
    assert preferred_type(accept, ("application/json", "text/markdown")) == chosen


def test_every_negotiated_response_says_so_to_caches(
    service: Service, start: Callable[..., Service], settings: Settings
) -> None:
    found = []
    for path, operations in service.get("/openapi.json").json()["paths"].items():
        types = operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        for accept in (*types, "*/*") if len(types) > 1 else ():
            response = service.request("GET", path, headers={"X-API-Key": KEY, "Accept": accept})
            assert response.headers["vary"] == "Accept", (path, accept)
            found.append(path)
    assert set(found) == {"/", "/health", "/metrics", "/v1/model"}
    rows = service.request("POST", "/v1/predict/batch", headers={"X-API-Key": KEY}, json=[{}])
    assert "vary" not in service.get("/livez").headers
    assert rows.headers["vary"] == "Accept"
    (settings.home / "models" / "wdbc" / "registry.json").unlink()
    without = start(cors_origins=("https://a.example",)).get("/health")
    assert (without.status_code, without.headers["vary"]) == (503, "Accept, Origin")
