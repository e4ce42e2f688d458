"""What logging a prediction costs, how fast the log drains, and whether kill -9 loses one.

Shows microseconds per append, plain and encrypted, alone and in a batch, beside the system
call that no log can do without; rows a second and CPU per row that a drainer takes on SQLite
and PostgreSQL; and, with ``--kill-rounds N``, what N kills of an answering process cost.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import structlog
from sqlalchemy import text

from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.entry import LogEntry, new_id
from bc_pipeline.prediction_log.frames import encode_frame
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.settings import Settings
from tests.e2e.crashes import kill_rounds
from tests.postgres import Postgres

ROWS = 50_000
BATCH = 1_000
REPEATS = 5


def entries(number: int) -> list[LogEntry]:
    return [
        LogEntry(
            new_id(),
            time.time(),
            "20260601T000000Z-logistic-3f2a9c1b7d",
            "ab" * 32,
            0.75,
            True,
            0.0004,
            "hospital",
            "/v1/predict",
            os.urandom(240),
            "sample-1",
        )
        for _ in range(number)
    ]


def each(work: Callable[[], object], number: int) -> float:
    """Median CPU microseconds of one of `number`, over the repeats."""
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return median(seconds) / number * 1e6


def appends(folder: Path) -> None:
    made = entries(10_000)
    data = encode_frame(made[0])
    descriptor = os.open(folder / "bare", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    bare = each(lambda: [os.write(descriptor, data) for _ in made], len(made))
    os.close(descriptor)
    print(f"{'write(2) alone':34} {bare:6.2f} us a record of {len(data)} bytes")
    print(f"{'new_id':34} {each(lambda: [new_id() for _ in made], len(made)):6.2f} us")
    key = folder / "key"
    key.write_text(os.urandom(32).hex())
    for name, key_file in (("plain", None), ("encrypted", key)):
        spool = Spool.open(Settings(home=folder / name, records_key_file=key_file), "bench")
        one = each(partial(append, spool, made, 1), len(made))
        batch = each(partial(append, spool, made, BATCH), len(made))
        spool.close()
        print(f"{f'append, {name}':34} {one:6.2f} us alone, {batch:6.2f} us in a batch of {BATCH}")


def append(spool: Spool, made: list[LogEntry], size: int) -> None:
    for at in range(0, len(made), size):
        spool.append(made[at : at + size])


def drains(folder: Path) -> None:
    server = Postgres()
    try:
        server.start()
        for name, url in (("SQLite", None), ("PostgreSQL", server.emptied())):
            settings = Settings(home=folder / f"drain-{name}", records_url=url)
            spool = Spool.open(settings, "bench")
            made = entries(ROWS)
            append(spool, made, BATCH)
            spool.close()
            open_database(settings).migrate()
            drainer = Drainer(settings, threading.Event())
            wall, cpu = time.perf_counter(), time.process_time()
            drainer.run(once=True)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            drainer.close()
            print(
                f"{f'drained into {name}':34} {ROWS / wall:6,.0f} rows/s, "
                f"{cpu / ROWS * 1e6:5.1f} us of the drainer's CPU a row, "
                f"{stored_bytes(settings) / ROWS:,.0f} bytes a row with its indexes"
            )
    finally:
        server.remove()


def stored_bytes(settings: Settings) -> int:
    """What the database takes on disk."""
    if settings.records_url is None:
        return sum(path.stat().st_size for path in settings.records.glob("predictions.sqlite*"))
    engine = open_database(settings).engine
    with engine.connect() as connection:
        current = connection.execute(text("SELECT pg_database_size(current_database())"))
        empty = connection.execute(text("SELECT pg_database_size('template1')"))
        return int(current.scalar_one()) - int(empty.scalar_one())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kill-rounds", type=int, default=0, metavar="N")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        appends(folder)
        drains(folder)
        if options.kill_rounds:
            began = time.perf_counter()
            losses = kill_rounds(folder / "kills", options.kill_rounds, seed=1)
            print(
                f"{losses.rounds} kills of a worker, {losses.drainers} of a drainer: "
                f"{losses.answered:,} answered, {losses.lost} lost "
                f"({time.perf_counter() - began:.0f} s)"
            )
            if losses.lost:
                sys.exit(1)


if __name__ == "__main__":
    main()
