"""Standard error for log lines: one that cannot be written is lost, and nothing else.

The reader of a pipe may end and a disk fill up while the service runs. Who logs is often just
about to see to something, as that a key was revoked, and must not be kept from it.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


class LogStream(io.TextIOBase):
    """Writes each text at once, as `structlog` and `logging` do with whole lines.

    Past the buffer of ``sys.stderr``, which would keep what could not be written and make the
    end of the process fail for it.
    """

    def __init__(self) -> None:
        # None where the process was started without a standard error.
        self._descriptor = None if sys.stderr is None else 2

    def write(self, text: str) -> int:
        if self._descriptor is not None:
            with suppress(OSError):
                os.write(self._descriptor, text.encode(errors="backslashreplace"))
        return len(text)
