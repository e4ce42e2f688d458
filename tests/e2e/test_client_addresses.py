"""Whose word on a client's address a running service believes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.settings import Settings
from tests.e2e.service_process import running_service

ELSEWHERE = "203.0.113.9"


@pytest.mark.parametrize(
    ("trusted", "client"),
    [("", "127.0.0.1"), ("192.0.2.0/24", "127.0.0.1"), ("127.0.0.1", ELSEWHERE)],
)
def test_a_header_counts_only_where_its_sender_is_a_named_proxy(
    settings: Settings, tmp_path: Path, trusted: str, client: str
) -> None:
    with running_service(settings, tmp_path, BC_TRUSTED_PROXIES=trusted) as service:
        connection = service.connect()
        connection.request(
            "GET", "/version", headers={"X-Forwarded-For": ELSEWHERE, "X-Forwarded-Proto": "https"}
        )
        assert connection.getresponse().read()
        connection.close()

        def logged() -> list[Any]:
            return [event for event in service.events() if event["event"] == "request"]

        service.wait_for(logged, 5)
        assert [event["client"] for event in logged()] == [client], json.dumps(logged())
