"""A program in a session of its own, which can be killed with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass
class Process:
    """One program; what it writes goes to `log`.

    Airflow gives each task a process group of its own, so a group is not enough: the session
    is what goes down when a machine does.

    Attributes
    ----------
    wanted : bool
        Whether it ought to run. One that ended by itself is restarted by whoever keeps it.
    starts : int
        How often it was started.
    """

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    folder: Path
    log: Path
    wanted: bool = False
    starts: int = 0
    leader: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.leader = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1
        self.wanted = True

    @property
    def has_ended(self) -> bool:
        return self.leader is None or self.leader.poll() is not None

    def kill(self) -> None:
        """SIGKILL to every process of the session, as when its machine loses power."""
        self.wanted = False
        if self.leader is None:
            return
        while members := self._members():
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.leader.poll()
            time.sleep(0.01)
        self.leader.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM, grace: float = 10.0) -> None:
        """Ask it to end; SIGKILL to what is left of its session."""
        self.wanted = False
        if self.leader is None:
            return
        if not self.has_ended:
            self.leader.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.leader.wait(grace)
        self.kill()

    def holds(self, pid: int) -> bool:
        """Whether a process is one of this session."""
        return pid in self._members()

    def _members(self) -> list[int]:
        assert self.leader is not None
        members = []
        for process in psutil.process_iter():
            try:
                if (
                    os.getsid(process.pid) == self.leader.pid
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    members.append(process.pid)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return members
