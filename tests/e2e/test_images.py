"""The images, built and run by podman as a deployment runs them."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.auth.api_keys import import_key
from tests.e2e.containers import TAG, Container, Podman, ready_podman, running
from tests.e2e.running import free_ports
from tests.e2e.service_process import KEY, exchange
from tests.e2e.volume import make_releases
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

HOME = "/var/lib/bc_pipeline"
ABSENT = ("sklearn", "scipy", "pandas", "mlflow", "airflow", "great_expectations", "joblib", "pip")
# A word that stands for a registry with a password in its address.
MARK = "registry-of-the-builder.invalid"
# Read here, because no test sees the caller's settings.
EVERY = os.environ.get("BC_TEST_ALL_IMAGES") == "1"


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    with ready_podman() as found:
        yield found


@pytest.fixture(scope="module")
def sizes(podman: Podman) -> str:
    """What the build of the service's image reported."""
    return podman.build("service", PIP_TRUSTED_HOST=MARK)


@dataclass(frozen=True)
class Service:
    """The service in a container, and its volumes on this side."""

    container: Container
    port: int
    home: Path
    row: list[float]

    def ask(self, method: str, path: str, content: Any = None) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            status, _, answer = exchange(connection, method, path, content, KEY)
            return status, answer
        finally:
            connection.close()

    def status(self, path: str) -> int:
        """0 where nobody listens."""
        try:
            return self.ask("GET", path)[0]
        except OSError:
            return 0


@pytest.fixture(scope="module")
def service(
    podman: Podman, sizes: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """It reads a volume that the other user wrote, and writes to its records alone."""
    home = tmp_path_factory.mktemp("volume") / "home"
    releases, rows = make_releases(home, 1)
    import_key(releases.settings.service_keys, "e2e", ["admin"], KEY)
    records = home / "records"
    records.mkdir()
    for path in [home, *home.rglob("*")]:
        os.chown(path, 50000, 0)
    os.chown(records, 10001, 0)
    records.chmod(0o2770)
    (port,) = free_ports(1)
    options = (
        *(f"--env=BC_SERVICE_PORT={port}", "--env=BC_WORKERS=2"),
        *(f"--volume={home}:{HOME}:ro", f"--volume={records}:{HOME}/records"),
    )
    with running(podman, "bc-pipeline-service", *options) as container:
        found = Service(container, port, home, rows[0])
        container.wait_for(lambda: found.status("/readyz") == 200)
        yield found


def files_of(home: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(home)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in home.rglob("*")
        if "records" not in path.relative_to(home).parts
    }


def test_it_answers_and_writes_to_its_records_alone(service: Service) -> None:
    before = files_of(service.home)
    assert service.status("/livez") == 200
    status, answer = service.ask("POST", "/predict", {"features": service.row})
    assert (status, answer["label"], answer["model_version"]) == (200, "malignant", "v0")
    found = f"/v1/predictions/{answer['prediction_id']}"
    service.container.wait_for(lambda: service.status(found) == 200)
    assert list((service.home / "records" / "wdbc" / "spool").glob("*.seg"))
    assert files_of(service.home) == before
    # podman itself puts files for names and addresses there.
    changed = service.container.podman.call("diff", service.container.id).stdout.split("\n")
    assert [line for line in changed if line and "/etc" not in line] == []


def test_its_health_check_passes(service: Service) -> None:
    assert service.container.is_healthy()


def test_it_may_do_nothing_else(service: Service) -> None:
    inside = service.container.exec
    assert inside("id", "-u").stdout.strip() == "10001"
    assert inside("id", "-G").stdout.strip() == "0"
    status = inside("cat", "/proc/1/status").stdout
    assert re.search(r"^CapEff:\s0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)
    mounts = dict(line.split()[1:4:2] for line in inside("cat", "/proc/mounts").stdout.splitlines())
    assert mounts["/"].startswith("ro,")
    assert mounts[HOME].startswith("ro,")
    for path in (f"{HOME}/models/wdbc/registry.json", f"{HOME}/x", "/opt/venv/x", "/etc/x"):
        assert inside("sh", "-c", f": >> {path}", check=False).returncode
    inside("touch", f"{HOME}/records/x", "/tmp/x")
    secret = inside("cat", f"{HOME}/keys/signing.pem", check=False)
    assert "Permission denied" in secret.stderr


def test_it_has_no_training_stack(service: Service) -> None:
    code = f"from importlib.util import find_spec; print([n for n in {ABSENT} if find_spec(n)])"
    assert service.container.exec("python", "-c", code).stdout.strip() == "[]"


def test_nothing_of_the_builder_is_left_in_it(podman: Podman, sizes: str) -> None:
    image = f"bc-pipeline-service:{TAG}"
    history = podman.call("history", "--no-trunc", "--format", "json", image).stdout
    history += podman.call("image", "inspect", image).stdout
    root = Path(podman.call("image", "mount", image).stdout.strip())
    try:
        assert (root / "opt" / "venv" / "bin" / "python").is_symlink()
        assert not list((root / "run").glob("secrets/*"))
        assert not (root / "build").exists()
        assert not (root / "root" / ".cache").exists()
        for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            path = os.environ.get(name)
            if path and Path(path).is_file():
                assert not copies(root, Path(path).read_bytes())
        search = ["grep", "--recursive", "--fixed-strings", "--files-with-matches", MARK, root]
        found = subprocess.run(search, capture_output=True, text=True)
        # It ends with 1 where it finds nothing.
        assert (found.returncode, found.stdout) == (1, "")
    finally:
        podman.call("image", "unmount", image)
    assert MARK not in history
    assert not re.search(r'"(PIP_|UV_|SSL_|HTTPS?_PROXY)', history, re.IGNORECASE)


def copies(root: Path, content: bytes) -> list[Path]:
    return [
        path
        for path in root.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and path.stat().st_size == len(content)
        and path.read_bytes() == content
    ]


def test_it_is_as_small_as_promised(sizes: str) -> None:
    """Above its base; the figure of docs/deployment.md, with room for newer versions."""
    found = re.search(rf"^bc-pipeline-service:{TAG} +\d+ +(\d+)$", sizes, re.MULTILINE)
    assert found is not None
    assert int(found[1]) < 500


def test_sigterm_ends_it_in_time(service: Service) -> None:
    """The last test of this container: what it answered is in the database by then."""
    _, answer = service.ask("POST", "/predict", {"features": service.row})
    code, seconds = service.container.stop()
    assert code == 0
    assert seconds < 15
    database = service.home / "records" / "wdbc" / "predictions.sqlite"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        text = "\n".join(connection.iterdump())
    connection.close()
    assert answer["prediction_id"].replace("-", "") in text.replace("-", "").lower()


# The other images ------------------------------------------------------------------------


def other_image(test: Any) -> Any:
    reason = "building it takes minutes: BC_TEST_ALL_IMAGES=1 builds and runs every image"
    return pytest.mark.timeout(1200)(pytest.mark.skipif(not EVERY, reason=reason)(test))


@other_image
def test_airflow_and_the_commands_run_and_the_dags_parse(podman: Podman) -> None:
    image = "bc-pipeline-airflow"
    podman.build("airflow")
    assert podman.once(image, "airflow", "version").strip() == "3.3.2"
    assert "bc-pipeline doctor" in podman.once(image, "bc-pipeline", "doctor", "--help")
    # Each task of a worker would otherwise load the heavy libraries anew.
    loaded = (
        "import sys; sys.argv = ['airflow', 'celery', 'worker']; "
        "import airflow.settings; airflow.settings.initialize(); "
        "print('great_expectations' in sys.modules)"
    )
    celery = ("--env=AIRFLOW__CORE__EXECUTOR=CeleryExecutor",)
    assert podman.once(image, "python", "-c", loaded, options=celery).splitlines()[-1] == "True"
    script = (
        "airflow db migrate >/tmp/migrate 2>&1 || cat /tmp/migrate >&2; "
        "airflow dags reserialize >/dev/null; "
        "airflow dags list --output json; airflow dags list-import-errors --output json"
    )
    options = (
        "--env=AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite:////tmp/airflow.db",
        "--tmpfs=/opt/airflow/logs:mode=1777",
    )
    printed = podman.once(image, "sh", "-ec", script, options=options)
    dags = json.loads(next(line for line in printed.splitlines() if line.startswith("[{")))
    assert {"wdbc_retrain", "wdbc_batch_score"} <= {dag["dag_id"] for dag in dags}
    # Modules that could not be imported.
    assert printed.splitlines()[-1] == "[]"


@other_image
def test_mlflow_serves_and_keeps_what_it_got(podman: Podman) -> None:
    podman.build("mlflow")
    (port,) = free_ports(1)
    url = "/run/secrets/url"
    options = (
        *(f"--env=MLFLOW_PORT={port}", f"--env=MLFLOW_BACKEND_STORE_URI_FILE={url}"),
        "--tmpfs=/var/lib/mlflow:mode=1777",
    )
    secret = Path(podman.environment["CONTAINERS_CONF"]).with_name("url")
    secret.write_text("sqlite:////tmp/named-in-a-file.db")
    with running(podman, "bc-pipeline-mlflow", *options, f"--volume={secret}:{url}:ro") as mlflow:
        mlflow.wait_for(mlflow.is_healthy, 90)
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        create = "/api/2.0/mlflow/experiments/create"
        status, _, _ = exchange(connection, "POST", create, {"name": "wdbc"}, None)
        connection.close()
        assert status == 200
        mlflow.exec("test", "-s", "/tmp/named-in-a-file.db")
        code, seconds = mlflow.stop()
        assert (code, seconds < 15) == (0, True)


@other_image
def test_spark_counts_with_the_package_in_reach(podman: Podman) -> None:
    podman.build("spark")
    code = (
        "import bc_pipeline, onnxruntime; from pyspark.sql import SparkSession; "
        "session = SparkSession.builder.master('local[1]').getOrCreate(); "
        "rows = session.range(1000).repartition(2).mapInArrow(lambda batches: batches, 'id long'); "
        "print('rows', rows.count())"
    )
    assert "rows 1000" in podman.once("bc-pipeline-spark", "python", "-c", code)
