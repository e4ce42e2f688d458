"""What a worker does by itself, over and over: it must not stop at the first surprise."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from bc_pipeline.access.keys import revoke_key

JWT = {"jwt_issuer": "https://issuer.example", "jwt_audience": "service"}
AWAY = {**JWT, "jwt_jwks_url": "https://login..example/jwks"}


def fails_twice(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[int]:
    """Have a method fail twice in ways nobody foresaw; returns a list that grows by each call."""
    real, calls = getattr(owner, name), list[int]()

    def method() -> Any:
        calls.append(1)
        if len(calls) <= 2:
            raise RuntimeError
        return real()

    monkeypatch.setattr(owner, name, method)
    return calls


@pytest.mark.parametrize("broken", ["", "refresh", "refresh_tokens"])
def test_a_revoked_key_is_refused_whatever_went_wrong_before(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    service = start(reload_seconds=0.01, **AWAY)
    services = service.app.state.services
    if broken:
        calls = fails_twice(monkeypatch, services.guard, broken)
    service.wait(0.3)
    assert not broken or len(calls) > 2
    assert service.predict({}).status_code != 401
    revoke_key(services.settings.service_keys, "tests")
    deadline = time.monotonic() + 5
    while service.predict({}).status_code != 401:
        assert time.monotonic() < deadline
        service.wait(0.05)


def test_a_new_champion_is_taken_whatever_went_wrong_before(
    start: Callable[..., Any], releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start(reload_seconds=0.01)
    fails_twice(monkeypatch, service.model, "refresh")
    service.wait(0.2)
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    deadline = time.monotonic() + 5
    while service.model.current is None:
        assert time.monotonic() < deadline
        service.wait(0.05)
