"""Standard error as a log stream that never raises: a line that cannot be written is lost.

The reader of a pipe may end, or a disk fill up, while the service runs. The code that logs must
go on all the same: it may be about to drop a revoked key.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


class LogStream(io.TextIOBase):
    """Writes each text at once; `structlog` and `logging` write whole lines.

    It bypasses the buffer of ``sys.stderr``, which would retain a text that cannot be written
    and make the interpreter fail at exit.
    """

    def __init__(self) -> None:
        # None where the process was started without a standard error.
        self._descriptor = None if sys.stderr is None else 2

    def write(self, text: str) -> int:
        if self._descriptor is not None:
            with suppress(OSError):
                os.write(self._descriptor, text.encode(errors="backslashreplace"))
        return len(text)
