"""Slow clients beside ordinary ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bc_pipeline.settings import Settings
from tests.e2e.service_process import Load, running_service
from tests.e2e.slow_clients import KINDS, SLOW, SlowClients

LIMIT_SECONDS = 2


def test_slow_clients_are_closed_while_others_are_answered(
    settings: Settings, tmp_path: Path, releases: Any, fitted: Any, reference: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    with running_service(settings, tmp_path, BC_SLOW_CLIENT_SECONDS=str(LIMIT_SECONDS)) as service:
        clients = SlowClients(service)
        try:
            with Load(service, reference[0].tolist(), pause=0.01) as load:
                clients.drip_until_closed(30)
            assert load.failures == []
            assert {answer.status for answer in load.answers} == {200}
            assert len(load.answers) > 100
        finally:
            clients.close()
    assert len(clients.closed) == SLOW
    assert min(seconds for _, seconds in clients.closed) >= LIMIT_SECONDS / 2
    # A body that does not arrive is answered with 408.
    timed_out = [answer for answer in clients.answers if b" 408 " in answer]
    assert len(timed_out) == SLOW // len(KINDS)
    head, _, body = timed_out[0].partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["code"] == "body-too-slow"
