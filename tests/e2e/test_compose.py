"""The compose file in use: the volumes are handed over, one side writes, the other answers.

Built here is the service's image alone, so it also stands in for Airflow's where a volume is
prepared or written; user, rights, mounts, secrets and limits are those of the compose file.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from bc_pipeline.deployment.container_secrets import make_container_secrets
from bc_pipeline.problems import get_problem
from tests.e2e.containers import ROOT, TAG, Container, Podman, ready_podman
from tests.e2e.running import free_ports
from tests.e2e.service_process import exchange
from tests.e2e.volume import make_releases
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

HOME = "/var/lib/bc_pipeline"
LANDING = f"{HOME}/data/wdbc/landing"
# As a promotion writes the volume: whole files, the pointer last.
PUBLISH = f"""
from pathlib import Path
from bc_pipeline.artifacts.files import write_atomic
source = Path("/prepared")
files = [path for path in sorted(source.rglob("models/**/*")) if path.is_file()]
for path in sorted(files, key=lambda path: path.name == "registry.json"):
    write_atomic(Path("{HOME}") / path.relative_to(source), path.read_bytes())
"""


def derived(port: int, prepared: Path) -> dict[str, Any]:
    """The services that are tried, in the network of this machine; the rest is as it was."""
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    declared = compose["services"]
    writer = declared["airflow-worker"]
    writer["secrets"].append("api_key")
    writer["volumes"].append(f"{prepared}:/prepared:ro")
    writer |= {"restart": "no", "healthcheck": {"disable": True}}
    service = declared["service"]
    service["environment"]["BC_SERVICE_PORT"] = str(port)
    service["healthcheck"]["test"][-1] = f"http://127.0.0.1:{port}/livez"
    services = {"volume-init": declared["volume-init"], "writer": writer, "service": service}
    for about in services.values():
        about["image"] = f"bc-pipeline-service:{TAG}"
        for word in ("depends_on", "ports", "networks"):
            about.pop(word, None)
    for about in (writer, service):
        about["network_mode"] = "host"
    return {
        "name": f"bc-pipeline-test-{os.getpid()}",
        "services": services,
        "volumes": compose["volumes"],
        "secrets": compose["secrets"],
        "x-podman": {"in_pod": False},
    }


@dataclass(frozen=True)
class Deployment:
    """A project of podman-compose."""

    podman: Podman
    folder: Path
    port: int
    key: str
    rows: list[list[float]]

    def compose(self, *words: str, check: bool = True) -> str:
        program = Path(sys.executable).with_name("podman-compose")
        done = subprocess.run(
            [program, "--file", self.folder / "docker-compose.yaml", *words],
            env={**self.podman.environment, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def once(self, name: str, *words: str) -> str:
        return self.compose("run", "--rm", "--no-deps", "-T", name, *words)

    @property
    def service(self) -> Container:
        return Container(self.podman, f"bc-pipeline-test-{os.getpid()}_service_1")

    def ask(self, method: str, path: str, content: Any = None) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            status, _, answer = exchange(connection, method, path, content, self.key)
            return status, answer
        except OSError:
            return 0, {}
        finally:
            connection.close()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Volumes prepared, a key let in, and the service started before anything was promoted."""
    folder = tmp_path_factory.mktemp("deployment")
    releases, rows = make_releases(folder / "prepared", 1)
    secrets = folder / "secrets"
    secrets.mkdir(mode=0o700)
    for name, key in (
        ("signing_key", releases.settings.signing_key),
        ("verify_key", releases.settings.verify_key),
    ):
        (secrets / name).write_bytes(key.read_bytes())
    make_container_secrets(secrets)
    (port,) = free_ports(1)
    file = folder / "docker-compose.yaml"
    file.write_text(yaml.safe_dump(derived(port, folder / "prepared"), sort_keys=False))
    with ready_podman() as podman:
        podman.build("service")
        key = (secrets / "api_key").read_text()
        found = Deployment(podman, folder, port, key, rows)
        try:
            found.once("volume-init")
            words = ("--name", "e2e", "--scope", "admin", "--key-file", "/run/secrets/api_key")
            found.once("writer", "bc-pipeline", "keys", "import", *words)
            found.compose("up", "--detach", "--no-deps", "service")
            found.service.wait_for(lambda: found.ask("GET", "/livez")[0] == 200)
            yield found
        finally:
            found.compose("down", "--volumes", "--timeout", "1", check=False)


def owner(container: Container, path: str) -> str:
    return container.exec("stat", "--format=%u:%g %a", path).stdout.strip()


def test_what_one_side_promotes_the_other_answers_with(deployment: Deployment) -> None:
    service = deployment.service
    assert deployment.ask("GET", "/readyz")[0] == 503
    assert service.is_healthy()
    deployment.once("writer", "python", "-c", PUBLISH)
    # Each worker takes it up on its own, and any of them may be asked.
    content = {"features": deployment.rows[0]}
    answers: list[tuple[int, dict[str, Any]]] = []

    def is_answered() -> bool:
        answers.append(deployment.ask("POST", "/predict", content))
        return answers[-1][0] == 200

    wait_until(is_answered)
    _, answer = answers[-1]
    assert (answer["label"], answer["model_version"]) == ("malignant", "v0")
    assert owner(service, f"{HOME}/models/wdbc/registry.json") == "50000:0 640"
    assert owner(service, f"{HOME}/models/wdbc") == "50000:0 2775"


def test_what_callers_upload_the_other_side_finds(deployment: Deployment) -> None:
    problem = get_problem("wdbc")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["diagnosis", *problem.schema.names])
    writer.writerows([["M", *row] for row in deployment.rows[:3]])
    connection = HTTPConnection("127.0.0.1", deployment.port, timeout=PATIENCE)
    headers = {"X-API-Key": deployment.key, "Content-Type": "text/csv"}
    connection.request("POST", "/v1/labelled-data", text.getvalue(), headers)
    answer = connection.getresponse()
    answered = json.loads(answer.read())
    connection.close()
    assert answer.status == 201, answered
    listed = deployment.once("writer", "sh", "-c", f"cat {LANDING}/api-*.csv")
    assert listed.replace("\r", "").strip() == text.getvalue().replace("\r", "").strip()


def test_volumes_belong_to_whom_they_should(deployment: Deployment) -> None:
    found = {
        path: owner(deployment.service, path)
        for path in (HOME, LANDING, f"{HOME}/keys", f"{HOME}/records")
    }
    assert found == {
        HOME: "50000:0 2775",
        LANDING: "50000:0 2775",
        f"{HOME}/keys": "50000:0 2750",
        f"{HOME}/records": "10001:0 2770",
    }


def test_the_service_can_do_what_it_must_and_nothing_else(deployment: Deployment) -> None:
    inside = deployment.service.exec
    assert inside("id", "-u").stdout.strip() == "10001"
    status = inside("cat", "/proc/1/status").stdout
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    # Its group may write to these folders: it is the mount that keeps it out.
    for path in (f"{HOME}/x", f"{HOME}/models/wdbc/x"):
        refused = inside("sh", "-c", f": >> {path}", check=False)
        assert "Read-only file system" in refused.stderr
    held = inside("ls", "/run/secrets").stdout.split()
    assert set(held) == {"airflow_service_password", "records_url", "verify_key"}
    limits = inside("cat", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/memory.max", check=False)
    # The first version of control groups has other file names.
    assert limits.returncode or limits.stdout.split() == ["128", str(2**30)]
