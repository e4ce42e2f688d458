"""What the embedded stack consists of: each process, its environment and its sign of life."""

from __future__ import annotations

import os
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings
from bc_pipeline.stack.secrets import AIRFLOW_USER, read_secret, secrets_of

# One thread for each numerical library: two cores are shared by all the processes, and a
# task forks from a process that has these libraries loaded.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Component:
    """One supervised process.

    Attributes
    ----------
    command : tuple of str
    after : tuple of str
        Components that must be ready first.
    probe : str
        URL that answers once the process works; for Airflow's parts without a port, the
        API server's health page. Empty for a process that runs to its end.
    health_key : str
        Part of Airflow's health page that speaks for this process; empty: the answer
        itself does.
    ready_statuses : tuple of int
        HTTP statuses that count as working. The service answers 503 until there is a
        champion, and works.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    probe: str = ""
    after: tuple[str, ...] = ()
    health_key: str = ""
    ready_statuses: tuple[int, ...] = (200,)

    @property
    def runs_once(self) -> bool:
        return not self.probe


def program(name: str) -> str:
    """Path of a program that was installed beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def airflow_url(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.airflow_port}"


def mlflow_url(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.mlflow_port}"


def service_url(settings: Settings) -> str:
    scheme = "https" if settings.tls_cert_file else "http"
    return f"{scheme}://{settings.host}:{settings.service_port}"


def service_trust(settings: Settings) -> ssl.SSLContext | bool:
    """What a client in this stack believes of the service: the very certificate it was given.

    The address is the one that the service binds, for which no certificate needs to be made.

    Raises
    ------
    ConfigError
        Where the certificate cannot be read.
    """
    if settings.tls_cert_file is None:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(settings.tls_cert_file)
    except OSError as error:
        raise ConfigError(
            f"The certificate of the service cannot be read: {error.strerror or 'not PEM'}.",
            "Name a PEM chain.",
            setting="BC_TLS_CERT_FILE",
        ) from None
    return context


def log_file(settings: Settings, name: str) -> Path:
    return settings.home / "logs" / f"{name}.log"


def package_environment(settings: Settings) -> dict[str, str]:
    """Environment in which a child sees the same settings as this process."""
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    # Airflow starts its own parts by name.
    environment["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
    )
    return environment | {
        "BC_HOME": str(settings.home),
        "BC_PROJECT_DIR": str(settings.project_dir),
        "BC_AIRFLOW_PORT": str(settings.airflow_port),
        "BC_MLFLOW_PORT": str(settings.mlflow_port),
        "BC_SERVICE_PORT": str(settings.service_port),
        "PYTHONUNBUFFERED": "1",
    }


def airflow_environment(settings: Settings) -> dict[str, str]:
    """Airflow on SQLite with a local executor, bound to loopback, tuned for two cores."""
    home = settings.home / "airflow"
    secrets = secrets_of(settings)
    url = airflow_url(settings)
    options = {
        "CORE__DAGS_FOLDER": str(settings.project_dir / "dags"),
        "CORE__PLUGINS_FOLDER": str(settings.project_dir / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__AUTH_MANAGER": (
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
        ),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{AIRFLOW_USER}:admin,viewer:viewer",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(secrets.airflow_users),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__FERNET_KEY": read_secret(secrets.fernet_key),
        # SQLite lets one write at a time: wait for it longer than the usual five seconds.
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=60",
        "API__HOST": settings.host,
        "API__PORT": str(settings.airflow_port),
        "API__BASE_URL": url,
        "API__SECRET_KEY": read_secret(secrets.session_secret),
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": read_secret(secrets.jwt_secret),
        "LOGGING__BASE_LOG_FOLDER": str(settings.home / "logs" / "airflow"),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return (
        package_environment(settings)
        | _ONE_THREAD
        | {"AIRFLOW_HOME": str(home)}
        | {f"AIRFLOW__{key}": value for key, value in options.items()}
    )


def components(settings: Settings) -> tuple[Component, ...]:
    """Every process of the stack, in the order in which it starts."""
    airflow = airflow_environment(settings)
    health = f"{airflow_url(settings)}/api/v2/monitor/health"

    def part(name: str, *, health_key: str = "") -> Component:
        return Component(
            f"airflow-{name}",
            (program("airflow"), name),
            airflow,
            probe=health,
            after=("airflow-migrate",),
            health_key=health_key,
        )

    return (
        Component("airflow-migrate", (program("airflow"), "db", "migrate"), airflow),
        part("api-server"),
        part("scheduler", health_key="scheduler"),
        part("dag-processor", health_key="dag_processor"),
        part("triggerer", health_key="triggerer"),
        _mlflow(settings),
        Component(
            "service",
            (sys.executable, "-m", "bc_pipeline.serving"),
            package_environment(settings) | _ONE_THREAD,
            probe=f"{service_url(settings)}/health",
            ready_statuses=(200, 503),
        ),
    )


def _mlflow(settings: Settings) -> Component:
    home = settings.home / "mlflow"
    hosts = ",".join(
        f"{host}:{settings.mlflow_port}" for host in (settings.host, "localhost", "127.0.0.1")
    )
    command = (
        program("mlflow"),
        "server",
        *("--host", settings.host),
        *("--port", str(settings.mlflow_port)),
        *("--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"),
        *("--artifacts-destination", str(home / "artifacts")),
        *("--workers", "1"),
    )
    environment = package_environment(settings) | {
        "MLFLOW_SERVER_ALLOWED_HOSTS": hosts,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return Component("mlflow", command, environment, probe=f"{mlflow_url(settings)}/health")


def answers(component: Component, client: httpx.Client) -> bool:
    """Whether a process gives its sign of life."""
    try:
        response = client.get(component.probe)
    except httpx.HTTPError:
        return False
    if response.status_code not in component.ready_statuses:
        return False
    if not component.health_key:
        return True
    part = response.json().get(component.health_key) or {}
    return bool(part.get("status") == "healthy")
