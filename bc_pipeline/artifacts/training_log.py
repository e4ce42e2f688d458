"""``logs/training.log``: one line per candidate, evaluation and decision, for people.

The format is logfmt: ``at=... event=candidate problem=<name> candidate=logistic brier=0.0208``.
"""

from __future__ import annotations

import os
from typing import Any

from bc_pipeline.artifacts.files import FILE_MODE, make_directory
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time, now


def append_line(store: Store, event: str, **fields: Any) -> None:
    """Append one line by a single write, so that lines of parallel tasks do not mix."""
    from structlog.processors import LogfmtRenderer

    values = {"at": format_time(now()), "event": event, "problem": store.problem} | {
        name: f"{value:.6g}" if isinstance(value, float) else value
        for name, value in fields.items()
    }
    line = LogfmtRenderer(bool_as_flag=False)(None, "", values)
    make_directory(store.training_log.parent)
    descriptor = os.open(store.training_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)
