"""A Redis server of a test's own, which keeps what it holds over a restart."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import redis

from tests.e2e.cluster.process import Process

PROGRAM = "redis-server"


class Broker:
    """Listens on loopback, and asks for a password."""

    PASSWORD = "canary-redis-password"

    def __init__(self, folder: Path, port: int) -> None:
        folder.mkdir(parents=True)
        configuration = folder / "redis.conf"
        configuration.write_text(
            f"bind 127.0.0.1\nport {port}\ndir {folder}\nrequirepass {self.PASSWORD}\n"
            # Every message is on the disk before it is acknowledged.
            'appendonly yes\nappendfsync always\nsave ""\n'
        )
        self.url = f"redis://:{self.PASSWORD}@127.0.0.1:{port}/0"
        program = shutil.which(PROGRAM)
        assert program is not None
        self.process = Process(
            "redis", (program, str(configuration)), {}, folder, folder / "redis.log"
        )

    def start(self) -> None:
        self.process.start()
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, self.process.log.read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
