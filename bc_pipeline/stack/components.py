"""The processes of the embedded stack: command, environment and health probe of each."""

from __future__ import annotations

import os
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings
from bc_pipeline.stack.credentials import AIRFLOW_USER, read_secret, secret_file
from bc_pipeline.stack.state import port_variables

# One thread for each numerical library: all processes share the cores, and Airflow's tasks fork
# from a process that has these libraries loaded.
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
        Health URL; for Airflow's components without a port, that of the API server. Empty
        for a process that runs once.
    health_key : str
        Member of Airflow's health response that is about this process; empty: the status
        of the response counts.
    ready_statuses : tuple of int
        HTTP statuses that count as healthy. The service answers 503 until there is a
        champion.
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
    """Return the path of a program that is installed beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def airflow_url(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.airflow_port}"


def mlflow_url(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.mlflow_port}"


def training_runs_url(settings: Settings, client: httpx.Client) -> str:
    """Return MLflow's page with the training runs of the service's problem.

    The web UI opens an experiment on the pages for GenAI, whatever its kind, unless the URL chooses
    the others. Before the first run, and while MLflow does not answer, the URL is that of its
    first page.
    """
    url = mlflow_url(settings)
    try:
        response = client.get(
            f"{url}/api/2.0/mlflow/experiments/get-by-name",
            params={"experiment_name": settings.service_problem},
        )
        experiment = response.raise_for_status().json()["experiment"]["experiment_id"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        # No such experiment, or something else answers at the port.
        return url
    return f"{url}/#/experiments/{experiment}/runs?workflowType=machine_learning"


def service_url(settings: Settings) -> str:
    scheme = "https" if settings.tls_cert_file else "http"
    return f"{scheme}://{settings.host}:{settings.service_port}"


def service_tls_verification(settings: Settings) -> ssl.SSLContext | bool:
    """Return how clients within the stack verify the service: against its own certificate.

    The host name is not checked: the clients connect to the address that the service binds,
    which its certificate need not name.

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


def http_client(settings: Settings, timeout: float = 2.0) -> httpx.Client:
    """Make a client for the processes of the stack."""
    trust = service_tls_verification(settings)
    return httpx.Client(timeout=timeout, trust_env=False, verify=trust)


def log_file(settings: Settings, name: str) -> Path:
    return settings.home / "logs" / f"{name}.log"


def package_environment(settings: Settings) -> dict[str, str]:
    """Return an environment in which a child process loads the same settings."""
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    # Airflow starts its components by name.
    environment["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
    )
    return environment | {
        "BC_HOME": str(settings.home),
        "BC_PROJECT_DIR": str(settings.project_dir),
        **{name: str(port) for name, port in port_variables(settings).items()},
        "PYTHONUNBUFFERED": "1",
    }


def airflow_environment(settings: Settings) -> dict[str, str]:
    """Airflow on SQLite with a local executor, bound to loopback, tuned for two cores."""
    home = settings.home / "airflow"
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
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(
            secret_file(settings, "airflow_users.json")
        ),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__FERNET_KEY": read_secret(secret_file(settings, "airflow_fernet_key")),
        # SQLite allows one writer at a time: wait longer than the default of five seconds.
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=60",
        "API__HOST": settings.host,
        "API__PORT": str(settings.airflow_port),
        "API__BASE_URL": url,
        "API__SECRET_KEY": read_secret(secret_file(settings, "airflow_session_secret")),
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": read_secret(secret_file(settings, "airflow_jwt_secret")),
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
    """Return every process of the stack in start order."""
    airflow = airflow_environment(settings)
    health = f"{airflow_url(settings)}/api/v2/monitor/health"

    def component(name: str, *options: str, health_key: str = "") -> Component:
        return Component(
            f"airflow-{name}",
            (program("airflow"), name, *options),
            airflow,
            probe=health,
            after=("airflow-migrate",),
            health_key=health_key,
        )

    return (
        Component("airflow-migrate", (program("airflow"), "db", "migrate"), airflow),
        component("api-server"),
        # The API server reads logs on this machine; a log server would listen on every address.
        component("scheduler", "--skip-serve-logs", health_key="scheduler"),
        component("dag-processor", health_key="dag_processor"),
        component("triggerer", "--skip-serve-logs", health_key="triggerer"),
        _mlflow(settings),
        Component(
            "service",
            (sys.executable, "-m", "bc_pipeline.server"),
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


def is_healthy(component: Component, client: httpx.Client) -> bool:
    """Return whether the probe of a process succeeds."""
    try:
        response = client.get(component.probe)
    except httpx.HTTPError:
        return False
    if response.status_code not in component.ready_statuses:
        return False
    if not component.health_key:
        return True
    health = response.json().get(component.health_key) or {}
    return bool(health.get("status") == "healthy")
