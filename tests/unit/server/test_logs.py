from __future__ import annotations

import subprocess
import sys


def test_requests_that_the_service_makes_are_not_logged() -> None:
    code = (
        "import logging; from bc_pipeline.server.logs import configure_logs; "
        "configure_logs('DEBUG'); "
        "[logging.getLogger(name).info('canary') for name in ('httpx', 'httpcore')]; "
        "logging.getLogger('uvicorn').info('ours')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ours" in done.stderr
    assert "canary" not in done.stderr + done.stdout
