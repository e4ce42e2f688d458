"""`bc-pipeline cluster init` against a real PostgreSQL and a real Airflow, as Compose runs it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bc_pipeline.airflow_api import AirflowApi
from bc_pipeline.auth.callers import Caller
from bc_pipeline.auth.key_store import list_keys
from bc_pipeline.errors import AirflowAway
from bc_pipeline.serving.retraining import Retraining, RetrainOrder
from bc_pipeline.settings import Settings
from tests.e2e.running import free_ports
from tests.postgres import Postgres
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).with_name("bc-pipeline")
PASSWORD = "correct horse battery staple"
SERVICE_PASSWORD = "lesser horse"
RUN = "dags/wdbc_retrain/dagRuns/api__1"
# Rights of Airflow that the service's user must not have.
FORBIDDEN: list[tuple[str, str, Any]] = [
    ("POST", "dags/wdbc_batch_score/dagRuns", {"logical_date": None, "conf": {}}),
    ("PATCH", RUN, {"state": "success"}),
    ("DELETE", RUN, None),
    ("POST", "dags/wdbc_retrain/clearTaskInstances", {"dry_run": False}),
    ("PATCH", f"{RUN}/taskInstances/gate", {"new_state": "success"}),
    # A person's approval, in the person's place.
    ("PATCH", f"{RUN}/taskInstances/approve/-1/hitlDetails", {"chosen_options": ["Approve"]}),
    ("DELETE", "dags/wdbc_retrain", None),
    ("GET", "connections", None),
    ("GET", "variables", None),
    ("GET", "config", None),
    ("POST", "pools", {"name": "more", "slots": 9}),
]
CONNECTION = {"conn_type": "http", "host": "example.org", "password": "connection-canary"}


class Deployment:
    """What every machine of it shares: the environment, the secrets' files, the volume."""

    def __init__(self, folder: Path, database: Postgres) -> None:
        self.folder, self.database = folder, database
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        self.home = folder / "volume"
        self.service_password = self.secret("airflow_service_password", SERVICE_PASSWORD)
        self.connections = self.secret("connections.json", json.dumps({"hospital": CONNECTION}))
        url = f"postgresql+psycopg2://bc:{Postgres.PASSWORD}@/postgres?host={database.folder}"
        files = {
            "DATABASE__SQL_ALCHEMY_CONN": self.secret("airflow_db_url", url),
            "CORE__FERNET_KEY": self.secret(
                "fernet_key", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
            ),
            "API_AUTH__JWT_SECRET": self.secret("jwt_secret", "j" * 64),
            "API__SECRET_KEY": self.secret("api_secret_key", "s" * 64),
            "CELERY__BROKER_URL": self.secret("celery_broker_url", "redis://127.0.0.1:1/0"),
            "CELERY__RESULT_BACKEND": self.secret("celery_result_url", "db+" + url),
        }
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "BC_"))
        } | {
            "BC_HOME": str(self.home),
            "BC_AIRFLOW_PASSWORD_FILE": str(self.secret("airflow_admin_password", PASSWORD)),
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__AUTH_MANAGER": (
                "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
            ),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            **{f"AIRFLOW__{option}_CMD": f"cat {path}" for option, path in files.items()},
        }

    def secret(self, name: str, text: str) -> Path:
        path = self.secrets / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def on(self, machine: str) -> dict[str, str]:
        return self.environment | {"AIRFLOW_HOME": str(self.folder / machine)}

    def init(self, machine: str, *words: str) -> subprocess.Popen[str]:
        service = ("--service-password", str(self.service_password))
        return subprocess.Popen(
            [PROGRAM, "cluster", "init", "--json", *service, *words],
            env=self.on(machine),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.url()) as connection:
            return connection.execute(statement).fetchall()

    def roles(self, user: str) -> list[str]:
        found = self.rows(f"""
            SELECT r.name FROM ab_user u JOIN ab_user_role ur ON ur.user_id = u.id
            JOIN ab_role r ON r.id = ur.role_id WHERE u.username = '{user}'
        """)
        return [name for (name,) in found]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    database = Postgres()
    try:
        yield Deployment(tmp_path_factory.mktemp("deployment"), database)
    finally:
        database.remove()


def answer(process: subprocess.Popen[str], code: int = 0) -> Any:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, out + err
    for secret in (PASSWORD, SERVICE_PASSWORD, Postgres.PASSWORD, CONNECTION["password"]):
        assert secret not in out + err
    return json.loads(out)


def is_reached(settings: Settings) -> bool:
    try:
        with AirflowApi.log_in(settings):
            pass
    except AirflowAway:
        return False
    return True


def test_two_machines_prepare_one_deployment_at_once(deployment: Deployment) -> None:
    words = ("--connections", str(deployment.connections))
    both = [deployment.init(name, *words) for name in ("one", "two")]
    # The database comes up while they wait for it.
    threading.Timer(4, deployment.database.start).start()
    found = [answer(process) for process in both]
    done = {(each["pools"]["promotion"], each["user"], each["service_user"]) for each in found}
    assert done == {("made", "made", "made"), ("unchanged", "unchanged", "unchanged")}

    assert deployment.rows("SELECT slots FROM slot_pool WHERE pool = 'promotion'") == [(1,)]
    assert deployment.roles("admin") == ["Admin"]
    assert deployment.roles("service") == ["Retrain"]
    (connection,) = deployment.rows("SELECT host, password, is_encrypted FROM connection")
    assert connection[0] == "example.org"
    assert connection[2]
    assert CONNECTION["password"] not in connection[1]


def test_what_the_files_say_counts_when_it_runs_again(deployment: Deployment) -> None:
    before = {path: path.read_bytes() for path in (deployment.home / "keys").glob("*")}
    deployment.secret("airflow_admin_password", "another one")
    with psycopg.connect(deployment.database.url()) as connection:
        connection.execute("""
            INSERT INTO ab_user_role (id, user_id, role_id)
            SELECT nextval('ab_user_role_id_seq'), u.id, r.id FROM ab_user u, ab_role r
            WHERE u.username = 'service' AND r.name = 'Admin'
        """)
        connection.execute("UPDATE slot_pool SET slots = 7 WHERE pool = 'promotion'")
    again = answer(deployment.init("one"))
    done = again["pools"]["promotion"], again["user"], again["service_user"]
    assert done == ("changed", "changed", "changed")
    assert deployment.roles("service") == ["Retrain"]
    assert deployment.rows("SELECT slots FROM slot_pool WHERE pool = 'promotion'") == [(1,)]
    assert {path: path.read_bytes() for path in (deployment.home / "keys").glob("*")} == before
    assert [key.name for key in list_keys(deployment.home / "keys" / "service_keys.json")] == [
        "local"
    ]


def test_the_services_user_starts_retrains_and_can_do_nothing_else(deployment: Deployment) -> None:
    (port,) = free_ports(1)
    settings = Settings(
        home=deployment.home,
        airflow_url=f"http://127.0.0.1:{port}",
        airflow_user="service",
        airflow_password_file=deployment.service_password,
    )
    airflow = str(PROGRAM.with_name("airflow"))
    environment = deployment.on("one") | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.project_dir / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(settings.project_dir / "plugins"),
    }
    parse = (airflow, "dags", "reserialize")
    subprocess.run(parse, env=environment, capture_output=True, check=True, timeout=120)
    with (deployment.folder / "api-server.log").open("wb") as log:
        server = subprocess.Popen(
            [airflow, "api-server", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: is_reached(settings), 600, "Airflow answers")
        retraining = Retraining(settings)
        started, _ = retraining.start(RetrainOrder(), "key", Caller("a", "5f0c2d1e", frozenset()))
        described = retraining.find(started.id)
        assert (described.state, described.requested_by) == ("queued", "a (API key 5f0c2d1e)")
        with AirflowApi.log_in(settings) as api:
            status = {
                (method, path): api.client.request(method, f"/api/v2/{path}", json=body).status_code
                for method, path, body in FORBIDDEN
            }
            dags = api.client.get("/api/v2/dags").json()["dags"]
    finally:
        server.terminate()
        server.wait(PATIENCE)
    assert status == dict.fromkeys(status, 403)
    assert [dag["dag_id"] for dag in dags] == ["wdbc_retrain"]


def test_the_group_reads_what_it_needs_and_no_more(deployment: Deployment) -> None:
    keys = deployment.home / "keys"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()}
    assert modes["signing.pem"] == modes["api_key"] == 0o600
    assert modes["verify.pem"] == 0o644
    assert modes["service_keys.json"] == 0o640
    assert stat.S_IMODE(keys.stat().st_mode) == 0o2750
    for folder in ("models/wdbc/versions", "data/wdbc/landing", "audit", "scores/wdbc"):
        assert stat.S_IMODE((deployment.home / folder).stat().st_mode) == 0o2775, folder
    if os.geteuid() == 0:
        owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in deployment.home.rglob("*")}
        assert owners == {(50000, 0)}


def test_a_right_that_was_given_by_hand_is_taken_back(deployment: Deployment) -> None:
    query = """
        SELECT count(*) FROM ab_permission_view_role pr JOIN ab_role r ON r.id = pr.role_id
        WHERE r.name = 'Retrain'
    """
    before = deployment.rows(query)
    with psycopg.connect(deployment.database.url()) as connection:
        connection.execute("""
            INSERT INTO ab_permission_view_role (id, permission_view_id, role_id)
            SELECT nextval('ab_permission_view_role_id_seq'), pv.id, r.id
            FROM ab_permission_view pv JOIN ab_permission p ON p.id = pv.permission_id
            JOIN ab_view_menu v ON v.id = pv.view_menu_id, ab_role r
            WHERE p.name = 'can_read' AND v.name = 'Connections' AND r.name = 'Retrain'
        """)
    assert deployment.rows(query) != before
    assert answer(deployment.init("one"))["service_user"] == "changed"
    assert deployment.rows(query) == before


def test_everything_that_is_wrong_is_named_at_once(deployment: Deployment, tmp_path: Path) -> None:
    for name in ("fernet_key", "airflow_admin_password"):
        (deployment.secrets / name).write_text("")
    deployment.environment.pop("AIRFLOW__API_AUTH__JWT_SECRET_CMD")
    refused = answer(deployment.init("one", "--connections", str(tmp_path / "none.json")), code=3)
    message = refused["error"]["message"]
    for wrong in (
        "AIRFLOW__CORE__FERNET_KEY_CMD reads",
        "AIRFLOW__API_AUTH__JWT_SECRET is not set",
        "BC_AIRFLOW_PASSWORD_FILE names",
        "none.json cannot be read",
    ):
        assert wrong in message
