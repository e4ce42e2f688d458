"""The script that makes the databases of a deployment, against a real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bc_pipeline.deployment.container_secrets import make_container_secrets
from tests.e2e.running import free_ports
from tests.postgres import BIN, Postgres
from tests.waiting import PATIENCE

SCRIPT = Path(__file__).parents[3] / "docker" / "postgres" / "databases.sh"
pytestmark = pytest.mark.postgresql
URLS = ("airflow_db_url", "mlflow_db_url", "records_url")


class Server:
    """A PostgreSQL whose administrator is named as in the official image, and the secrets."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.secrets = folder / "secrets"
        self.postgres = Postgres(port)
        make_container_secrets(self.secrets)
        self.script = folder / "databases.sh"
        self.script.write_text(SCRIPT.read_text().replace("/run/secrets", str(self.secrets)))
        self.postgres.start()
        self.say(
            f"CREATE ROLE postgres SUPERUSER LOGIN PASSWORD '{self.read('postgres_password')}'"
        )

    def read(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def say(self, statement: str) -> None:
        with psycopg.connect(self.postgres.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", self.script],
            env={
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "PGHOST": "127.0.0.1",
                "PGPORT": str(self.port),
                "PGUSER": "postgres",
                "TMPDIR": str(self.folder),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def connect(self, name: str, database: str = "") -> psycopg.Connection:
        """As an application does, with what its secret says, here."""
        user, _, rest = self.read(name).partition("://")[2].partition(":")
        password, _, address = rest.partition("@")
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=user,
            password=password,
            dbname=database or address.partition("/")[2],
            connect_timeout=int(PATIENCE),
        )

    def passwords(self) -> list[str]:
        return [self.read("postgres_password")] + [
            self.read(name).partition("://")[2].partition(":")[2].partition("@")[0] for name in URLS
        ]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (port,) = free_ports(1)
    found = Server(tmp_path, port)
    try:
        yield found
    finally:
        found.postgres.remove()


def test_a_start_that_was_cut_short_is_made_good_by_the_next(server: Server) -> None:
    # Left by an interrupted first try: a user without a database, a database without its rights.
    server.say("CREATE ROLE mlflow")
    server.say("CREATE ROLE airflow LOGIN PASSWORD 'another'")
    server.say("CREATE DATABASE airflow OWNER airflow")
    for _ in range(2):
        done = server.run()
        assert (done.returncode, done.stderr) == (0, "")
        for name in URLS:
            with server.connect(name) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS mine (number integer)")
    for other in ("airflow", "records", "postgres"):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            server.connect("mlflow_db_url", other)


def test_a_new_password_is_set_and_what_is_stored_stays(server: Server) -> None:
    assert server.run().returncode == 0
    with server.connect("records_url") as connection:
        connection.execute("CREATE TABLE kept (number integer)")
    (server.secrets / "records_url").unlink()
    make_container_secrets(server.secrets)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        server.connect("records_url")
    assert server.run().returncode == 0
    with server.connect("records_url") as connection:
        connection.execute("SELECT number FROM kept")


def test_no_password_is_told_or_logged_or_left(server: Server) -> None:
    server.say("ALTER SYSTEM SET log_statement = 'all'")
    server.say("SELECT pg_reload_conf()")
    assert server.run().returncode == 0
    secret = server.secrets / "airflow_db_url"
    secret.chmod(0o644)
    secret.write_text("postgresql://airflow:it's@postgres/airflow")
    refused = server.run()
    assert refused.returncode == 1
    assert "airflow_db_url" in refused.stderr
    said = refused.stdout + refused.stderr + (server.postgres.folder / "log").read_text()
    assert not [word for word in (*server.passwords(), "it's") if word in said]
    assert sorted(path.name for path in server.folder.iterdir()) == ["databases.sh", "secrets"]
