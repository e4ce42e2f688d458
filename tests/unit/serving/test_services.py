"""Background tasks of a worker go on after unexpected errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from bc_pipeline.auth.api_keys import revoke_key

# The issuer's keys cannot be fetched from there.
UNAVAILABLE_ISSUER = {
    "jwt_issuer": "https://issuer.example",
    "jwt_audience": "service",
    "jwt_jwks_url": "https://login..example/jwks",
}


def fail_at_first(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, times: int) -> list[int]:
    """Make the first calls of a method fail; returns a list that grows by each call."""
    real, calls = getattr(owner, name), list[int]()

    def method() -> Any:
        calls.append(1)
        if len(calls) <= times:
            raise RuntimeError
        return real()

    monkeypatch.setattr(owner, name, method)
    return calls


@pytest.mark.parametrize("failing", [None, "refresh", "refresh_tokens"])
def test_a_revoked_key_is_refused_although_reloading_failed_before(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, failing: str | None
) -> None:
    service = start(reload_seconds=0.01, **UNAVAILABLE_ISSUER)
    services = service.app.state.services
    reloads = [
        fail_at_first(monkeypatch, services.authenticator, name, 2 if name == failing else 0)
        for name in ("refresh", "refresh_tokens")
    ]
    service.wait_until(lambda: all(len(calls) > 2 for calls in reloads))
    assert service.predict({}).status_code != 401
    revoke_key(services.settings.service_keys, "tests")
    # The reload that runs at present may have read the file already.
    enough = len(reloads[0]) + 2
    service.wait_until(lambda: len(reloads[0]) > enough)
    assert service.predict({}).status_code == 401


def test_a_new_champion_is_loaded_although_reading_the_registry_failed_before(
    start: Callable[..., Any], releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start(reload_seconds=0.01)
    refresh, threads = service.model.refresh, list[int]()

    def fail_at_first() -> None:
        threads.append(threading.get_ident())
        if len(threads) <= 2:
            raise RuntimeError
        refresh()

    with capture_logs() as logs:
        monkeypatch.setattr(service.model, "refresh", fail_at_first)
        service.wait_until(lambda: len(threads) > 1)
        releases.publish("v1", fitted[0])
        releases.promote("v1")
        service.wait_until(lambda: service.model.current is not None)
    # Files are read outside the event loop's thread.
    assert threading.get_ident() not in threads
    assert [entry["loop"] for entry in logs if "loop" in entry] == ["model"]
