"""Airflow on several processes, as on several machines: each can be killed and started."""

from __future__ import annotations

import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from bc_pipeline.airflow_api import AirflowApi
from bc_pipeline.artifacts.store import Store
from bc_pipeline.settings import Settings
from bc_pipeline.stack import preload
from bc_pipeline.stack.components import airflow_url, program
from tests.e2e.cluster.broker import Broker
from tests.e2e.cluster.environment import cluster_environment, secret
from tests.e2e.cluster.process import Process
from tests.e2e.running import free_ports
from tests.postgres import Postgres
from tests.waiting import wait_until

WORKERS = ("worker-1", "worker-2")
_PASSWORD = "correct horse battery staple"
_HEALTH = "/api/v2/monitor/health"


class Cluster:
    """The servers, the parts of Airflow and the shared volume.

    A part that ends by itself is started again, as a container's restart policy does; one
    that a test has killed stays away until the test starts it.
    """

    def __init__(self, folder: Path) -> None:
        database, broker, airflow, mlflow = free_ports(4)
        self.folder = folder
        self.settings = Settings(
            home=folder / "home",
            airflow_port=airflow,
            mlflow_port=mlflow,
            airflow_password_file=secret(folder, "airflow_admin_password", _PASSWORD),
        )
        self.store = Store(self.settings.home, "wdbc")
        self.database = Postgres(database)
        self.broker = Broker(folder / "redis", broker)
        self.environment = cluster_environment(
            self.settings, folder, self.database.url(), self.broker.url
        )
        preload.install(Path(self.environment["AIRFLOW_HOME"]))
        worker = ("celery", "worker", "--skip-serve-logs", "--without-gossip", "--without-mingle")
        self.parts = {
            "api-server": self._part("api-server", "api-server"),
            "scheduler": self._part("scheduler", "scheduler"),
            "dag-processor": self._part("dag-processor", "dag-processor"),
            "triggerer": self._part("triggerer", "triggerer", "--skip-serve-logs"),
            **{name: self._part(name, *worker, "--celery-hostname", name) for name in WORKERS},
        }
        self._clients = ExitStack()
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def _part(self, name: str, *words: str) -> Process:
        return Process(
            name,
            (program("airflow"), *words),
            self.environment,
            self.folder / name,
            self.folder / f"{name}.log",
        )

    def start(self) -> None:
        self.database.start()
        self.broker.start()
        prepared = subprocess.run(
            (program("bc-pipeline"), "cluster", "init"),
            env=self.environment,
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
        )
        assert prepared.returncode == 0, prepared.stdout + prepared.stderr
        for part in self.parts.values():
            part.start()
        self._keeper.start()
        wait_until(self.is_healthy, 300, "Airflow is healthy")
        self.airflow = self._clients.enter_context(AirflowApi.log_in(self.settings))

    def close(self) -> None:
        self._clients.close()
        self._closing.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for part in self.parts.values():
            part.kill()
        self.broker.process.kill()
        self.database.remove()

    def _keep(self) -> None:
        while not self._closing.wait(0.5):
            for part in self.parts.values():
                if part.wanted and part.has_ended:
                    part.kill()
                    part.start()

    def is_healthy(self) -> bool:
        try:
            answer = httpx.get(f"{airflow_url(self.settings)}{_HEALTH}", timeout=5)
        except httpx.HTTPError:
            return False
        if not answer.is_success:
            return False
        found = answer.json()
        parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        return all((found.get(part) or {}).get("status") == "healthy" for part in parts)

    def worker_of(self, task: dict[str, Any]) -> str:
        """Name of the worker that a task instance runs on, or ran on."""
        return Path(task["hostname"]).name
