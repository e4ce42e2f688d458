"""A running stack, used the way its users do."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bc_pipeline.settings import Settings


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@dataclass
class Stack:
    """Command line, REST and HTTP of one stack."""

    environment: dict[str, str]
    first: dict[str, Any]

    @property
    def home(self) -> Path:
        return Path(self.environment["BC_HOME"])

    @property
    def settings(self) -> Settings:
        ports = ("airflow_port", "mlflow_port", "service_port")
        return Settings(
            home=self.home, **{name: self.environment[f"BC_{name.upper()}"] for name in ports}
        )

    def command(self, *words: str, code: int = 0) -> Any:
        """Run ``bc-pipeline WORDS --json`` and return its answer."""
        done = run_command(self.environment, *words)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def champion(self) -> str:
        return str(self.command("registry")["registry"]["production"]["version"])

    def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request to the prediction service, with its key."""
        client = arguments.pop("client", None)
        key = Path(self.first["service"]["api_key_file"]).read_text().strip()
        headers = {"X-API-Key": key} | arguments.pop("headers", {})
        url = f"{self.first['service']['url']}{path}"
        send = client.request if client else httpx.request
        response: httpx.Response = send(method, url, headers=headers, **arguments)
        return response

    def predict(self, features: dict[str, float], client: httpx.Client | None = None) -> Any:
        return self.ask("POST", "/predict", json=features, client=client)


def run_command(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("bc-pipeline")
    return subprocess.run(
        [program, *words, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
