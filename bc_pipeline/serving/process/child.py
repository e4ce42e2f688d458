"""One process that the launcher keeps running."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 5.0
# A process that lived for so long did not fail because of how it starts.
STEADY_SECONDS = 10.0


class Child:
    """A process, and when to start it again.

    Its standard input is a pipe that nobody writes to: it ends when the launcher does, in
    whatever way.

    Parameters
    ----------
    tells : bool
        Whether its standard output is a pipe that the launcher reads; otherwise what it
        prints goes to standard error, for standard output is the launcher's own.
    descriptors : sequence of int
        What it inherits.
    own_group : bool
        Whether signals to the launcher's process group, a Ctrl-C among them, pass it by.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        tells: bool = False,
        descriptors: Sequence[int] = (),
        own_group: bool = False,
    ) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.due = 0.0
        self._command = command
        self._environment = environment
        self._tells = tells
        self._descriptors = descriptors
        self._own_group = own_group
        self._backoff = FIRST_BACKOFF
        self._started = 0.0

    @property
    def output(self) -> IO[bytes] | None:
        """What it tells."""
        return self.process.stdout if self.process else None

    def start(self) -> None:
        """Start it.

        Raises
        ------
        OSError
            Where the system has no room for another process.
        """
        self._started = time.monotonic()
        self.process = subprocess.Popen(
            self._command,
            env=self._environment,
            pass_fds=self._descriptors,
            process_group=0 if self._own_group else None,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if self._tells else 2,
        )

    def postpone(self) -> float:
        """Plan the next start; returns the seconds until then."""
        now = time.monotonic()
        if now - self._started > STEADY_SECONDS:
            self._backoff = FIRST_BACKOFF
        wait = self._backoff
        self.due = now + wait
        self._backoff = min(2 * wait, LONGEST_BACKOFF)
        return wait

    def terminate(self) -> None:
        """Ask it to end."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)

    def end_input(self) -> None:
        """Ask it to end, in a way that also one takes that has only just been started."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def wait(self, deadline: float) -> None:
        """Wait until it ended; at the deadline it is killed."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.forget()

    def forget(self) -> None:
        """Close what belonged to a process that ended."""
        if self.process is not None:
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
            self.process = None
