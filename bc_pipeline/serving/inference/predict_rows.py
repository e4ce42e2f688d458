"""Answering many rows without keeping other requests waiting."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import IO, TypeVar

from bc_pipeline.errors import PipelineError
from bc_pipeline.serving.bodies.body import Sample
from bc_pipeline.serving.exchange import Exchange
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.predict import Prediction, predict
from bc_pipeline.serving.services import Services

# A body below this is read in less time than another thread takes to begin.
_SMALL = 16 * 1024
# Rows that are answered in about two milliseconds.
_AT_ONCE = 256

Read = TypeVar("Read")


@cache
def _reader() -> ThreadPoolExecutor:
    """One thread: large bodies are read one after another, and their memory does not add up."""
    return ThreadPoolExecutor(1, "bodies")


async def read_aside(stored: IO[bytes], read: Callable[[bytes], Read]) -> Read:
    """Read a stored body, a large one in another thread and brought to memory there."""
    start = stored.read(_SMALL)
    if len(start) < _SMALL:
        return read(start)
    stored.seek(0)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_reader(), tidily, lambda: read(stored.read()))


def tidily(read: Callable[[], Read]) -> Read:
    """Read, and give back to the system what malloc would keep of a large body's memory."""
    refusal: PipelineError | None = None
    try:
        found = read()
    except PipelineError as error:
        # Its traceback would keep what was parsed.
        refusal = error.with_traceback(None)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    if refusal is not None:
        raise refusal
    return found


async def predict_rows(
    services: Services, exchange: Exchange, live: Live, samples: Sequence[Sample], route: str
) -> list[Prediction]:
    """Answer and record all samples with one model, letting others in between.

    Raises
    ------
    DegenerateModel, RecordsAway
        As `predict`. Rows before the one that failed stay in the log.
    """
    answers: list[Prediction] = []
    for start in range(0, len(samples), _AT_ONCE):
        if start:
            await asyncio.sleep(0)
        answers += predict(services, exchange, live, samples[start : start + _AT_ONCE], route)
    return answers
