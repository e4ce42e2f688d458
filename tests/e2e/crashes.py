"""Rounds of kill -9: of a process that answers, and of the drainer beside it."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.e2e import answering

# The share of rounds after which the drainer is killed too.
_DRAINERS_KILLED = 0.1
_ID_LINE = 37


@dataclass(frozen=True)
class Crashes:
    """What came of the rounds.

    Attributes
    ----------
    rounds, answered : int
    lost : int
        Ids that were printed, and are not in the database after a drainer has run.
    drainers : int
        How many were killed, one after the other.
    """

    rounds: int
    answered: int
    lost: int
    drainers: int


def kill_rounds(home: Path, rounds: int, seed: int, longest: float = 0.03) -> Crashes:
    """Kill an answering process `rounds` times, each at a random moment of its life."""
    rng = random.Random(seed)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BC_")}
    environment["BC_HOME"] = str(home)
    answered: set[str] = set()
    drainers = 1
    nursery = subprocess.Popen(
        [sys.executable, answering.__file__],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    drainer = _start_drainer(environment)
    try:
        for number in range(rounds):
            answered |= _one_life(nursery, f"worker-{number}", rng.uniform(0, longest))
            if rng.random() < _DRAINERS_KILLED:
                drainer.kill()
                drainer.wait()
                drainer = _start_drainer(environment)
                drainers += 1
    finally:
        for process in (nursery, drainer):
            process.kill()
            process.communicate()
    last = _start_drainer(environment, "--once")
    if last.wait() != 0:
        raise RuntimeError("the last drainer failed")
    database = sqlite3.connect(home / "records" / "wdbc" / "predictions.sqlite")
    try:
        stored = {row[0] for row in database.execute("SELECT id FROM predictions")}
    finally:
        database.close()
    return Crashes(rounds, len(answered), len(answered - stored), drainers)


def _start_drainer(environment: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "bc_pipeline.prediction_log", *arguments],
        env=environment,
        stderr=subprocess.DEVNULL,
    )


def _one_life(nursery: subprocess.Popen[bytes], name: str, seconds: float) -> set[str]:
    """Ids that a worker printed before it was killed."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    assert nursery.stderr is not None
    nursery.stdin.write(f"{name}\n".encode())
    nursery.stdin.flush()
    child = int(nursery.stderr.readline())
    # The first answer, so that most lives have some; a kill before it would prove nothing.
    lines = [nursery.stdout.readline()]
    killer = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
    killer.start()
    while lines[-1] != b"END\n":
        lines.append(nursery.stdout.readline())
        if not lines[-1]:
            raise RuntimeError("the answering program ended")
    killer.join()
    # The last id may have been cut by the kill.
    return {line.strip().decode() for line in lines if len(line) == _ID_LINE}
