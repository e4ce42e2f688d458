from __future__ import annotations

import subprocess
import sys


def test_requests_of_our_own_are_no_lines_of_the_log() -> None:
    code = (
        "import logging; from bc_pipeline.serving.process.logs import configure_logs; "
        "configure_logs('DEBUG'); "
        "[logging.getLogger(name).info('canary') for name in ('httpx', 'httpcore')]; "
        "logging.getLogger('uvicorn').info('ours')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ours" in done.stderr
    assert "canary" not in done.stderr + done.stdout
