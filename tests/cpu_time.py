"""Costs in CPU time relative to a loop that is timed beside them.

Bounds on such a ratio hold on slow and on busy machines alike.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from functools import cache
from typing import Any


def _reference() -> None:
    counts: dict[int, int] = {}
    for number in range(10):
        counts[number] = counts.get(number - 1, 0) + number


def cpu_cost(work: Callable[[], Any], *, number: int = 2000, repeat: int = 20) -> float:
    """CPU time of one call, as a multiple of ten steps of plain Python on a dict."""
    best = {function: float("inf") for function in (work, _reference)}
    for _ in range(repeat):
        for function in best:
            seconds = timeit.timeit(function, timer=time.thread_time, number=number)
            best[function] = min(best[function], seconds)
    return best[work] / best[_reference]


def loop_seconds() -> float:
    """CPU time of a fixed loop in plain Python; 0.05 s on the machine that bounds were set on."""
    start = time.thread_time()
    counts: dict[str, int] = {}
    for number in range(400_000):
        key = str(number % 1000)
        counts[key] = counts.get(key, 0) + 1
    return time.thread_time() - start


_usual_loop_seconds = cache(loop_seconds)


def within_loops(seconds: float, loops: float) -> bool:
    """Whether some CPU time is at most that of a number of `loop_seconds`.

    The loop is timed once, and again where that time is exceeded: the machine may have become
    slower or busier since.
    """
    return seconds <= loops * _usual_loop_seconds() or seconds <= loops * loop_seconds()
