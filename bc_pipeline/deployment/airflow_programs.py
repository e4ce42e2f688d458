"""Run Airflow's command and the plugin's set-up program against a deployment's database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts.files import make_directory
from bc_pipeline.errors import StackError
from bc_pipeline.settings import Settings
from bc_pipeline.stack.components import log_file, package_environment, program

LOG = "cluster-init"
MIGRATE_SECONDS = 900.0
APPLY_SECONDS = 180.0
# Limit for importing Airflow, which is slow on a busy machine.
IMPORT_SECONDS = 60.0
_QUOTED = 300
Message = dict[str, Any]


def wait_for_database(settings: Settings, seconds: float, on_retry: Callable[[str], None]) -> None:
    """Wait until Airflow's metadata database answers.

    Parameters
    ----------
    on_retry : callable
        Called with the driver's message after each failed attempt.

    Raises
    ------
    StackError
        Where it does not answer in time.
    """
    for answer in _request(settings, {"do": "wait", "seconds": seconds}, seconds + IMPORT_SECONDS):
        if "problem" in answer:
            raise StackError(
                answer["problem"], "Start it, or correct AIRFLOW__DATABASE__SQL_ALCHEMY_CONN."
            )
        if "waiting" in answer:
            on_retry(answer["waiting"])


def migrate_database(settings: Settings) -> None:
    """Migrate Airflow's tables, including those of its auth manager, to this release.

    Airflow locks the database, so concurrent migrations wait for each other.

    Raises
    ------
    StackError
        Naming the log, where it fails.
    """
    with _running(settings, (program("airflow"), "db", "migrate"), MIGRATE_SECONDS):
        pass


def apply(settings: Settings, content: Message) -> Message:
    """Create pools, connections and users; ``bc_airflow.deployment`` defines the content.

    Raises
    ------
    StackError
        Naming the log, where it fails.
    """
    result: Message = {}
    for answer in _request(settings, {"do": "apply"} | content, APPLY_SECONDS):
        result |= answer
    return result


def _request(settings: Settings, request: Message, seconds: float) -> Iterator[Message]:
    """Send a request to the program on Airflow's side, and yield its responses."""
    command = (sys.executable, "-m", "bc_airflow.deployment")
    with _running(settings, command, seconds, piped=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # If the program has ended already, its log has the reason.
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request))
            process.stdin.close()
        for line in process.stdout:
            yield json.loads(line)


@contextmanager
def _running(
    settings: Settings, command: tuple[str, ...], seconds: float, *, piped: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """Run a program that ends with the block; its output goes to a log on the volume.

    Parameters
    ----------
    piped : bool
        Whether standard input and output are pipes to this process.

    Raises
    ------
    StackError
        Where it fails or does not end in time.
    """
    log = log_file(settings, LOG)
    make_directory(log.parent)
    pipe = subprocess.PIPE if piped else None
    timed_out = threading.Event()
    with log.open("ab") as output:
        start_offset = output.tell()
        with subprocess.Popen(
            command,
            env=_environment(settings),
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or output,
            stderr=output,
            text=True,
        ) as process:

            def kill() -> None:
                timed_out.set()
                process.kill()

            timer = threading.Timer(seconds, kill)
            timer.start()
            try:
                yield process
                process.wait()
            finally:
                timer.cancel()
                process.kill()
    if process.returncode:
        name = " ".join((Path(command[0]).name, *command[1:]))
        reason = f"was killed after {seconds:g} s" if timed_out.is_set() else "failed"
        raise StackError(f"'{name}' {reason}: {_last_line(log, start_offset)}.", f"See {log}.")


def _environment(settings: Settings) -> dict[str, str]:
    """Return an environment in which the plugins can be imported."""
    plugins = str(settings.project_dir / "plugins")
    path = os.pathsep.join(filter(None, (plugins, os.environ.get("PYTHONPATH"))))
    return package_environment(settings) | {"PYTHONPATH": path}


def _last_line(log: Path, start_offset: int) -> str:
    """Return the last line written since `start_offset`; a traceback ends with the error."""
    with log.open("rb") as stream:
        stream.seek(start_offset)
        lines = [line for line in stream.read().decode(errors="replace").splitlines() if line]
    return lines[-1].strip()[:_QUOTED].rstrip(".") if lines else "it printed nothing"
