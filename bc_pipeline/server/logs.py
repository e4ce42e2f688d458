"""Log configuration of a worker."""

from __future__ import annotations

import logging
import traceback
from typing import TextIO, cast

import structlog
from structlog.types import Processor

from bc_pipeline.log_stream import LogStream


def configure_logs(level: str) -> None:
    """Write log lines, uvicorn's too, to standard error as one JSON object each."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    stream = cast("TextIO", LogStream())
    # structlog writes to the stream itself, not through `logging`: that is faster.
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # At INFO they log the address of each request that the service makes itself.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def log_unexpected_error(error: BaseException) -> None:
    """Log an error that no code expected: class and place, as its message may hold a value."""
    frames = list(traceback.walk_tb(error.__traceback__))
    position = ""
    if frames:
        frame, line = frames[-1]
        position = f" at {frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}"
    structlog.get_logger().error("connection_failed", error=f"{type(error).__name__}{position}")
