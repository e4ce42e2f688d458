"""The service's parent process: it binds the socket, starts the others and restarts them.

It keeps N workers, which answer requests on the one socket that all inherit, and a drainer,
which moves the prediction log into the database. It imports no framework and no model, so it
starts fast and takes little memory; workers are started as programs, not forked from a process
that has threads.

uvicorn's own supervisor is not used: it imports the application in the parent, polls workers
twice a second, restarts one that cannot start without a pause, reports to nobody when the
workers are ready, runs no other kind of process, and its workers stay when it is killed. The
socket is shared instead of opened by each worker (SO_REUSEPORT): connections in the backlog of
a worker that dies would be lost.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType

from bc_pipeline.log_stream import LogStream
from bc_pipeline.managed_process import Backoff, ManagedProcess
from bc_pipeline.server import metrics_folder
from bc_pipeline.server.listener import announce
from bc_pipeline.settings import Settings

EXIT_REFUSED = 2
EXIT_FAILED = 1
# Workers finish their requests within 10 s; see `server.DRAIN_SECONDS`.
WORKERS_SECONDS = 11.0
DRAINER_SECONDS = 10.0
_BACKOFF = Backoff(first=0.1, longest=5.0, steady=10.0)
# Count of a worker that accepts no connections; see `acceptor.ConnectionCounts`.
_NOT_ACCEPTING = (2**31 - 1).to_bytes(4, sys.byteorder)
# glibc raises this threshold as large blocks are freed, up to 32 MiB, and then keeps the memory
# of large bodies: measured, a worker had 260 MB after them instead of 145.
_LARGE_BLOCK = ("MALLOC_MMAP_THRESHOLD_", str(1024 * 1024))


class Launcher:
    """Starts the processes, restarts those that end, and stops them in order.

    Parameters
    ----------
    listener : socket.socket
        Bound; only workers listen on it.
    application : str
        The factory of the application that workers serve, as ``module:function``.
    until_eof : bool
        Whether to stop when standard input ends.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        workers: int,
        *,
        application: str,
        until_eof: bool,
    ) -> None:
        self._log_level = settings.log_level
        self._stderr = LogStream()
        self._listener = listener
        self._metrics = metrics_folder.create_folder() if workers > 1 else None
        self._connection_counts = os.memfd_create("connection-counts")
        for number in range(workers):
            os.pwrite(self._connection_counts, _NOT_ACCEPTING, number * len(_NOT_ACCEPTING))
        environment = self._child_environment()
        self._workers = [
            self._worker(number, workers, application, environment)
            for number in range(1, workers + 1)
        ]
        self._drainer = ManagedProcess(
            "drainer",
            (sys.executable, "-m", "bc_pipeline.prediction_log", "--until-eof"),
            _BACKOFF,
            env=environment,
            stdin=subprocess.PIPE,
            # The launcher's standard output is reserved for its announcement.
            stdout=2,
            # Ctrl-C in a terminal is for the launcher, which stops the drainer last.
            process_group=0,
        )
        self._ready: set[str] = set()
        self._announced = False
        self._stopping = False
        self._exit = 0
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_sender = socket.socketpair()
        for end in (self._wakeup, self._wakeup_sender):
            end.setblocking(False)
        self._selector.register(self._wakeup, selectors.EVENT_READ, None)
        if until_eof:
            self._selector.register(0, selectors.EVENT_READ, None)

    def _child_environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        environment.pop(metrics_folder.VARIABLE, None)
        environment.setdefault(*_LARGE_BLOCK)
        if self._metrics is not None:
            environment[metrics_folder.VARIABLE] = self._metrics
        return environment

    def _worker(
        self, number: int, workers: int, application: str, environment: dict[str, str]
    ) -> ManagedProcess:
        return ManagedProcess(
            f"worker-{number}",
            (
                *(sys.executable, "-m", "bc_pipeline.server.worker"),
                *("--application", application),
                *("--number", str(number), "--workers", str(workers)),
                *("--socket", str(self._listener.fileno())),
                *("--connection-counts", str(self._connection_counts)),
            ),
            _BACKOFF,
            env=environment,
            pass_fds=(self._listener.fileno(), self._connection_counts),
            # A worker stops when this pipe is closed, also where the launcher was killed.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self) -> int:
        """Run until a signal or the end of standard input.

        Returns
        -------
        int
            0 after an orderly shutdown. If the service never became ready: 2 where settings
            prevent a worker from starting, 1 where a worker failed for another reason.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wakeup_sender.fileno(), warn_on_full_buffer=False)
        _raise_file_limit()
        try:
            for worker in self._workers:
                self._start(worker)
            while not self._stopping:
                self._step()
        finally:
            self._stop()
        return self._exit

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._stopping = True

    def _step(self) -> None:
        """Wait for the next event or due restart, and handle it."""
        due = [child.due for child in self._children() if child.process is None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, ManagedProcess):
                self._read_reports(key.data)
            elif key.fileobj == 0:
                self._stopping = self._stopping or not os.read(0, 4096)
            else:
                self._wakeup.recv(4096)
        if self._stopping:
            return
        for child in self._children():
            if child.process is None:
                if time.monotonic() >= child.due:
                    self._start(child)
            elif child.process.poll() is not None:
                self._on_exit(child)

    def _children(self) -> tuple[ManagedProcess, ...]:
        """The drainer is started after the workers: it would only delay them."""
        return (*self._workers, self._drainer) if self._announced else tuple(self._workers)

    def _start(self, child: ManagedProcess) -> None:
        try:
            pid = child.start()
        except OSError as error:
            seconds = child.schedule_restart()
            self._log("error", "process_not_started", name=child.name, reason=error.strerror)
            self._log("warning", "process_postponed", name=child.name, seconds=seconds)
            return
        if child.output is not None:
            self._selector.register(child.output, selectors.EVENT_READ, child)
        self._log("info", "process_started", name=child.name, process=pid)

    def _read_reports(self, child: ManagedProcess) -> None:
        """Read a worker's reports: that it listens, or why it cannot start."""
        assert child.output is not None
        # A report is written at once and fits into the pipe's buffer.
        data = os.read(child.output.fileno(), 65536)
        for line in data.splitlines():
            match _parse_report(line):
                case {"event": "listening"}:
                    self._ready.add(child.name)
                    self._announce()
                case {"event": "refused", "message": str(reason)} if not self._stopping:
                    self._on_refusal(reason)
        if not data:
            self._selector.unregister(child.output)

    def _announce(self) -> None:
        if self._announced or len(self._ready) < len(self._workers):
            return
        self._announced = True
        announce(self._listener)

    def _on_refusal(self, reason: str) -> None:
        self._stderr.write(f"bc_pipeline.server: {reason}\n")
        if not self._announced:
            self._stopping, self._exit = True, EXIT_REFUSED

    def _on_exit(self, child: ManagedProcess) -> None:
        """Log the end of a process and schedule its next start."""
        assert child.process is not None
        if child.output is not None and child.output in self._selector.get_map():
            self._read_reports(child)
            if child.output in self._selector.get_map():
                self._selector.unregister(child.output)
        code, pid = child.process.returncode, child.process.pid
        seconds = child.schedule_restart()
        if child is not self._drainer:
            self._ready.discard(child.name)
            offset = self._workers.index(child) * len(_NOT_ACCEPTING)
            os.pwrite(self._connection_counts, _NOT_ACCEPTING, offset)
            if self._metrics is not None:
                metrics_folder.forget_worker(self._metrics, child.name)
            if not self._announced and not self._stopping:
                self._log("error", "worker_did_not_start", name=child.name, code=code)
                self._stopping, self._exit = True, EXIT_FAILED
                return
        self._log(
            "warning",
            "process_ended",
            name=child.name,
            process=pid,
            code=code,
            next_start_in=seconds,
        )

    def _stop(self) -> None:
        """Stop the workers, then let the drainer drain the last records."""
        self._listener.close()
        os.close(self._connection_counts)
        for worker in self._workers:
            worker.terminate()
        deadline = time.monotonic() + WORKERS_SECONDS
        for worker in self._workers:
            worker.wait(deadline)
        # A drainer that waits for its restart is started once more: it drains and exits.
        if self._announced and self._drainer.process is None:
            self._start(self._drainer)
        self._drainer.close_input()
        self._drainer.wait(time.monotonic() + DRAINER_SECONDS)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wakeup.close()
        self._wakeup_sender.close()
        if self._metrics is not None:
            shutil.rmtree(self._metrics, ignore_errors=True)

    def _log(self, level: str, event: str, **fields: object) -> None:
        """Write a line in the workers' format without importing their logging library."""
        if level == "info" and self._log_level not in ("DEBUG", "INFO"):
            return
        timestamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        line = {"event": event, **fields, "level": level, "timestamp": timestamp}
        self._stderr.write(json.dumps(line) + "\n")


def _parse_report(line: bytes) -> object:
    """A worker's report; None for text that a library printed."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _raise_file_limit() -> None:
    """Allow as many open files as the system does: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems report an unlimited hard limit and reject it.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
