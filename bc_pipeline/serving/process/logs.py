"""Where a worker's log lines go."""

from __future__ import annotations

import logging
from typing import TextIO, cast

import structlog
from structlog.types import Processor

from bc_pipeline.log_stream import LogStream


def configure_logs(level: str) -> None:
    """Send our log lines and uvicorn's to standard error, each one JSON object."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    stream = cast("TextIO", LogStream())
    # Ours go straight to the stream: one line per request is worth the shorter way.
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
    # A line for each of our own requests, with its address, is nobody's business.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
