"""Images built and run by podman, on a machine that reaches no registry of images."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = "localhost/python:3.11-slim-bookworm"
TAG = "test"
PROGRAMS = ("podman", "runc", "debootstrap")
# All that a container of this project may do: no capability, no way to one, and writes to
# nothing but its volumes and a small /tmp.
HARDENED = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:size=256m,mode=1777"),
    *("--cap-drop=all", "--security-opt=no-new-privileges", "--network=host"),
)
# The runtime that Debian's podman takes first asks for more than a container may have that
# this one runs in itself.
_CONFIGURATION = """\
[engine]
runtime = "runc"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
"""


@dataclass(frozen=True)
class Podman:
    """podman, with the settings under which it works inside of a container as well."""

    environment: Mapping[str, str]

    def call(
        self, *words: str, seconds: float = 120, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["podman", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def build(self, *names: str, **environment: str) -> str:
        """Build images as a person does, and return what was printed."""
        command = ["make", "--silent", "images", f"PYTHON={sys.executable}", "ENGINE=podman"]
        command += [f"IMAGES={' '.join(names)}", f"BASE={BASE}", f"TAG={TAG}"]
        # Without a service of the system that makes name spaces, a build runs in a plain chroot.
        command += ["BUILD_ARGS=--isolation=chroot --network=host"]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                stdout, stderr = process.communicate()
            except BaseException:
                # A build that takes too long must not go on behind the next test.
                os.killpg(process.pid, signal.SIGINT)
                raise
        assert process.returncode == 0, stdout + stderr
        return stdout

    def once(self, image: str, *words: str, options: tuple[str, ...] = ()) -> str:
        """Run one command in a container of its own, and return what it printed."""
        done = self.call("run", "--rm", *HARDENED, *options, f"{image}:{TAG}", *words, seconds=200)
        return done.stdout


@dataclass(frozen=True)
class Container:
    """One that runs."""

    podman: Podman
    id: str

    def exec(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.podman.call("exec", self.id, *words, check=check)

    def is_healthy(self) -> bool:
        """Run the image's health check, as an engine does every few seconds."""
        return self.podman.call("healthcheck", "run", self.id, check=False).returncode == 0

    def wait_for(self, what: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.2)

    def logs(self) -> str:
        done = self.podman.call("logs", self.id)
        return done.stdout + done.stderr

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; the exit code and the seconds that the end took, 30 at most."""
        started = time.monotonic()
        self.podman.call("stop", "--time", "30", self.id)
        seconds = time.monotonic() - started
        state = self.podman.call("inspect", "--format", "{{json .State}}", self.id).stdout
        return json.loads(state)["ExitCode"], seconds


@contextmanager
def running(
    podman: Podman, image: str, *options: str, command: tuple[str, ...] = ()
) -> Iterator[Container]:
    """A hardened container; it is removed with the block."""
    words = ("run", "--detach", *HARDENED, *options, f"{image}:{TAG}", *command)
    container = Container(podman, podman.call(*words).stdout.strip())
    try:
        yield container
    finally:
        podman.call("rm", "--force", "--time", "0", container.id)


@contextmanager
def ready_podman() -> Iterator[Podman]:
    """podman with an image to build on; what is missing skips the test, and says so."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid():
        pytest.skip(
            f"building images needs root and {', '.join(PROGRAMS)}: "
            f"'apt-get install {' '.join(PROGRAMS)}' brings them"
        )
    with tempfile.TemporaryDirectory(prefix="bc-podman-") as folder:
        configuration = Path(folder) / "containers.conf"
        configuration.write_text(_CONFIGURATION)
        podman = Podman({**os.environ, "CONTAINERS_CONF": str(configuration)})
        if podman.call("image", "exists", BASE, check=False).returncode:
            make = ["sh", str(ROOT / "docker" / "base.sh"), BASE]
            subprocess.run(make, env=podman.environment, check=True, capture_output=True)
        yield podman
