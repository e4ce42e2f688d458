"""A child process that its parent starts again when it ends, after longer and longer pauses."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import IO, Any


@dataclass(frozen=True)
class Backoff:
    """Pauses before a restart, in seconds.

    Attributes
    ----------
    first, longest : float
        Each pause is twice the last one.
    steady : float
        The end of a process that ran for so long is not a failed start: the first pause follows.
    """

    first: float
    longest: float
    steady: float


class ManagedProcess:
    """One program, its process and the time of its next start.

    Parameters
    ----------
    options : mapping
        For `subprocess.Popen`, at each start.

    Attributes
    ----------
    process : subprocess.Popen or None
        None until it is started, and once its end was noted by `schedule_restart` or `wait`.
    due : float
        When it may be started, by `time.monotonic`.
    """

    def __init__(self, name: str, command: Sequence[str], backoff: Backoff, **options: Any) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.due = 0.0
        self._command = command
        self._options = options
        self._backoff = backoff
        self._pause = backoff.first
        self._started = 0.0

    @property
    def output(self) -> IO[bytes] | None:
        """Its standard output, where that is a pipe."""
        return self.process.stdout if self.process else None

    def start(self, **options: Any) -> int:
        """Start it; returns the process id.

        Raises
        ------
        OSError
            Where the program is missing, or the system has no room for another process.
        """
        self._started = monotonic()
        self.process = subprocess.Popen(self._command, **self._options, **options)
        return self.process.pid

    def schedule_restart(self, *, was_ready: bool = True) -> float:
        """Note its end, or a failed start; returns the seconds until it may start again.

        Parameters
        ----------
        was_ready : bool
            Whether it did its work; one that never did is not steady, however long it ran.
        """
        self._release()
        now = monotonic()
        if was_ready and now - self._started > self._backoff.steady:
            self._pause = self._backoff.first
        pause = self._pause
        self.due = now + pause
        self._pause = min(2 * pause, self._backoff.longest)
        return pause

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self.process is not None:
            self.process.terminate()

    def close_input(self) -> None:
        """Close its standard input, where that is a pipe: a program stops at its end.

        Unlike a signal this also reaches a program that has not set its signal handlers yet.
        """
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def wait(self, deadline: float | None = None) -> None:
        """Wait for its end; at the deadline, by `time.monotonic`, it is killed."""
        if self.process is None:
            return
        try:
            self.process.wait(None if deadline is None else max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._release()

    def _release(self) -> None:
        if self.process is not None:
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
            self.process = None
