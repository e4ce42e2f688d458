"""Run Airflow's own program, and ours on its side, against the database of a deployment."""

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
# Until Airflow is imported, which a busy machine takes its time for.
IMPORT_SECONDS = 60.0
_QUOTED = 300
Answer = dict[str, Any]


def wait_for_database(settings: Settings, seconds: float, waits: Callable[[str], None]) -> None:
    """Wait until Airflow's metadata database answers.

    Parameters
    ----------
    waits : callable
        Told, at each try that failed, what the driver said.

    Raises
    ------
    StackError
        Where it does not answer in time.
    """
    for answer in _ask(settings, {"do": "wait", "seconds": seconds}, seconds + IMPORT_SECONDS):
        if "problem" in answer:
            raise StackError(
                answer["problem"], "Start it, or correct AIRFLOW__DATABASE__SQL_ALCHEMY_CONN."
            )
        if "waiting" in answer:
            waits(answer["waiting"])


def migrate_database(settings: Settings) -> None:
    """Bring Airflow's tables, those of its auth manager too, up to this release.

    Airflow takes a lock in the database: two at once wait for each other.

    Raises
    ------
    StackError
        Naming the log, where it fails.
    """
    with _running(settings, (program("airflow"), "db", "migrate"), MIGRATE_SECONDS):
        pass


def apply(settings: Settings, content: Answer) -> Answer:
    """Make pools, connections and users, as ``bc_airflow.deployment`` says.

    Raises
    ------
    StackError
        Naming the log, where it fails.
    """
    result: Answer = {}
    for answer in _ask(settings, {"do": "apply"} | content, APPLY_SECONDS):
        result |= answer
    return result


def _ask(settings: Settings, request: Answer, seconds: float) -> Iterator[Answer]:
    """What our program on Airflow's side answers, when it answers."""
    command = (sys.executable, "-m", "bc_airflow.deployment")
    with _running(settings, command, seconds, answering=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # Where it has ended already its log tells why.
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request))
            process.stdin.close()
        for line in process.stdout:
            yield json.loads(line)


@contextmanager
def _running(
    settings: Settings, command: tuple[str, ...], seconds: float, *, answering: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """A program that has ended when the block has; what it says goes to a log on the volume.

    Parameters
    ----------
    answering : bool
        Whether its standard input and output are pipes to this process.

    Raises
    ------
    StackError
        Where it does not end well, or not in time.
    """
    log = log_file(settings, LOG)
    make_directory(log.parent)
    pipe = subprocess.PIPE if answering else None
    late = threading.Event()
    with log.open("ab") as said:
        begun = said.tell()
        with subprocess.Popen(
            command,
            env=_environment(settings),
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or said,
            stderr=said,
            text=True,
        ) as process:

            def end() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(seconds, end)
            timer.start()
            try:
                yield process
                process.wait()
            finally:
                timer.cancel()
                process.kill()
    if process.returncode:
        name = " ".join((Path(command[0]).name, *command[1:]))
        why = f"was ended after {seconds:g} s" if late.is_set() else "failed"
        raise StackError(f"'{name}' {why}: {_last_line(log, begun)}.", f"See {log}.")


def _environment(settings: Settings) -> dict[str, str]:
    """As this process, with the Airflow-side code to be imported."""
    plugins = str(settings.project_dir / "plugins")
    path = os.pathsep.join(filter(None, (plugins, os.environ.get("PYTHONPATH"))))
    return package_environment(settings) | {"PYTHONPATH": path}


def _last_line(log: Path, begun: int) -> str:
    """The last line written since; a traceback ends with the error."""
    with log.open("rb") as stream:
        stream.seek(begun)
        lines = [line for line in stream.read().decode(errors="replace").splitlines() if line]
    return lines[-1].strip()[:_QUOTED].rstrip(".") if lines else "it says nothing"
