"""Waiting for what other processes do, on a machine that may be busy with other work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

# How long a test waits for anything that should happen soon. It only ends a test that hangs: how
# fast something happens is measured in bench/.
PATIENCE = 120.0


def wait_until(
    condition: Callable[[], Any],
    seconds: float = PATIENCE,
    what: str = "the condition holds",
    pause: float = 0.01,
) -> Any:
    """Poll until a condition holds, and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(pause)
    return value
