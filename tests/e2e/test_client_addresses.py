"""Which proxies a running service trusts for a client's address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.settings import Settings
from tests.e2e.service_process import running_service
from tests.waiting import wait_until

ELSEWHERE = "203.0.113.9"


@pytest.mark.parametrize(
    ("trusted", "client"),
    [("", "127.0.0.1"), ("192.0.2.0/24", "127.0.0.1"), ("127.0.0.1", ELSEWHERE)],
)
def test_x_forwarded_for_is_trusted_only_from_configured_proxies(
    settings: Settings, tmp_path: Path, trusted: str, client: str
) -> None:
    with running_service(settings, tmp_path, BC_TRUSTED_PROXIES=trusted) as service:
        connection = service.connect()
        connection.request(
            "GET", "/version", headers={"X-Forwarded-For": ELSEWHERE, "X-Forwarded-Proto": "https"}
        )
        assert connection.getresponse().read()
        connection.close()

        def requests() -> list[Any]:
            return [event for event in service.events() if event["event"] == "request"]

        wait_until(requests)
        assert [event["client"] for event in requests()] == [client], json.dumps(requests())
