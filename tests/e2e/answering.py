"""Workers that answer nothing but ids: each is printed once its record has been appended.

Run as a program. For each name that it reads it forks a worker, tells its process id on
standard error, and says END once the worker has been killed. Only the worker opens a log.
"""

from __future__ import annotations

import os
import sys
import time

from bc_pipeline.prediction_log.entry import LogEntry, new_id
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.settings import load_settings

BATCH = 40


def answer(name: str) -> None:
    spool = Spool.open(load_settings(), name)
    values = bytes(240)
    number = 0
    while True:
        size = BATCH if number % 10 == 9 else 1
        number += 1
        entries = [
            LogEntry(
                new_id(), time.time(), "v", "d", 0.5, True, 0.001, "ward", "/predict", values, None
            )
            for _ in range(size)
        ]
        spool.append(entries)
        os.write(1, "".join(f"{entry.id}\n" for entry in entries).encode())


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            answer(line.strip())
        os.write(2, f"{child}\n".encode())
        os.waitpid(child, 0)
        os.write(1, b"\nEND\n")


if __name__ == "__main__":
    main()
