"""What each process of the cluster is told: the environment and the files with secrets."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import yaml

from bc_pipeline.settings import Settings
from bc_pipeline.stack.components import airflow_url

_COMPOSE = Path(__file__).parents[3] / "docker-compose.yaml"
# A test waits for each of these periods, so they are as short as a busy machine of two cores
# allows.
_PERIODS = {
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "SCHEDULER__TASK_QUEUED_TIMEOUT": "30",
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    "WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "10",
}


def secret(folder: Path, name: str, text: str) -> Path:
    """A file with a secret; without a line end, which Airflow would take for a part of it."""
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def cluster_environment(
    settings: Settings, folder: Path, database: str, broker: str
) -> dict[str, str]:
    """Airflow on Celery, Redis and PostgreSQL, its secrets in files, as Compose runs it.

    Parameters
    ----------
    folder : Path
        For the files.
    database, broker : str
        URLs of PostgreSQL and of Redis.
    """
    url = airflow_url(settings)
    database = database.replace("postgresql:", "postgresql+psycopg2:")
    # Made by `openssl rand -base64 32` in production: any 32 bytes.
    files = {
        "DATABASE__SQL_ALCHEMY_CONN": secret(folder, "airflow_db_url", database),
        "CORE__FERNET_KEY": secret(
            folder, "fernet_key", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
        ),
        "API_AUTH__JWT_SECRET": secret(folder, "jwt_secret", secrets.token_hex(32)),
        "API__SECRET_KEY": secret(folder, "api_secret_key", secrets.token_hex(32)),
        "CELERY__BROKER_URL": secret(folder, "celery_broker_url", broker),
        "CELERY__RESULT_BACKEND": secret(folder, "celery_result_url", f"db+{database}"),
    }
    options = {
        "CORE__EXECUTOR": "CeleryExecutor",
        "CORE__PARALLELISM": "8",
        "CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "CORE__DAGS_FOLDER": str(settings.project_dir / "dags"),
        "CORE__PLUGINS_FOLDER": str(settings.project_dir / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        # Two workers on one machine: the folder that each stands in tells them apart.
        "CORE__HOSTNAME_CALLABLE": "os.getcwd",
        "CELERY__WORKER_CONCURRENCY": "2",
        "API__HOST": settings.host,
        "API__PORT": str(settings.airflow_port),
        "API__BASE_URL": url,
        "API__WORKERS": "1",
        # The DAGs do not change.
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        "LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        **_PERIODS,
    }
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "BC_", "PYTHON"))
    }
    return (
        inherited
        | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited["PATH"]]),
            "BC_HOME": str(settings.home),
            "BC_MLFLOW_PORT": str(settings.mlflow_port),
            "BC_AIRFLOW_PASSWORD_FILE": str(settings.airflow_password),
            "AIRFLOW_HOME": str(folder / "airflow"),
        }
        | yaml.safe_load(_COMPOSE.read_text())["x-airflow-recovery"]
        | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        | {f"AIRFLOW__{option}_CMD": f"cat {path}" for option, path in files.items()}
        | {f"AIRFLOW__{option}": value for option, value in options.items()}
    )
