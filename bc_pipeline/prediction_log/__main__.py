"""The drainer as a process: ``python -m bc_pipeline.prediction_log``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import TextIO, cast

import structlog

from bc_pipeline.errors import PipelineError
from bc_pipeline.log_stream import LogStream
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.settings import Settings, load_settings

EXIT_REFUSED = 2
# The exit code of every command for a transient failure: try again.
EXIT_UNAVAILABLE = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Drain the prediction log into the database until SIGTERM, SIGINT or the end of input."""
    parser = argparse.ArgumentParser(
        prog="python -m bc_pipeline.prediction_log",
        description="Move answered predictions from the log into the database. "
        "Settings come from BC_* in the environment.",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="drain what is there and end; exit code 8: database unavailable",
    )
    parser.add_argument(
        "--until-eof",
        action="store_true",
        help="end when standard input does, so as not to outlive the process that started it",
    )
    options = parser.parse_args(arguments)
    try:
        settings = load_settings()
        _configure_logging(settings)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        drainer = Drainer(settings, stop)
    except PipelineError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return EXIT_REFUSED
    if options.until_eof:
        threading.Thread(target=_stop_at_eof, args=(stop,), daemon=True).start()
    with closing(drainer):
        drained = drainer.run(once=options.once)
    # After a stop signal, entries that were not drained stay in the log: nothing is lost.
    return 0 if drained or not options.once else EXIT_UNAVAILABLE


def _stop_at_eof(stop: threading.Event) -> None:
    # Reads the descriptor: the lock of sys.stdin would block the interpreter's shutdown.
    while os.read(0, 4096):
        continue
    stop.set()


def _configure_logging(settings: Settings) -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", LogStream())),
    )


if __name__ == "__main__":
    sys.exit(main())
