"""Real processes in place of Airflow and MLflow: small, but with ports, children and signals."""

from __future__ import annotations

import socket
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.stack.components import Component

SERVER = textwrap.dedent(
    """
    import http.server, subprocess, sys

    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)

    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"part": {"status": "healthy"}, "other": {"status": "unhealthy"}}')

        def log_message(self, *_):
            pass

    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
    """
)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path, free_port: int) -> Callable[..., Component]:
    """Make a component that answers on a port and has a child process of its own."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)

    def make(name: str = "server", **fields: Any) -> Component:
        return Component(
            name,
            (sys.executable, str(script), str(free_port)),
            {"PATH": "/usr/bin:/bin"},
            probe=f"http://127.0.0.1:{free_port}/",
            **fields,
        )

    return make
