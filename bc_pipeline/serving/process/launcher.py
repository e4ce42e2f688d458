"""The process that the service is started as: it owns the socket and watches the others.

It keeps N workers, which answer requests on the one socket that all inherit, and a drainer,
which moves the prediction log into the database. It loads no framework and no model, so it
starts at once and takes little memory; workers start as programs, not as copies of a process
that has threads.

uvicorn has such a process too. It was not taken: it runs the application's imports in the
parent, polls workers twice a second, restarts one that cannot start without a pause, tells
nobody when the workers are ready, knows no other kind of child, and when it is killed its
workers stay. The socket is shared rather than opened once for each worker (SO_REUSEPORT):
connections that wait for a worker that dies would be lost with it.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType

from bc_pipeline.log_stream import LogStream
from bc_pipeline.serving.process.child import Child
from bc_pipeline.settings import Settings

EXIT_REFUSED = 2
EXIT_BROKEN = 1
# Workers finish what is under way within 10 s; see `server.DRAIN_SECONDS`.
WORKERS_SECONDS = 11.0
DRAINER_SECONDS = 10.0
# What stands for a worker that takes no connections; see `acceptor.Shares`.
_NO_SHARE = (2**31 - 1).to_bytes(4, sys.byteorder)
_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# The C library moves this bound up as large blocks are freed, to 32 MiB, and from then on keeps
# what large bodies took: measured, a worker had 260 MB after them in place of 145.
_LARGE_BLOCK = ("MALLOC_MMAP_THRESHOLD_", str(1024 * 1024))


class Launcher:
    """Starts the processes, restarts those that end, and ends them in order.

    Parameters
    ----------
    listener : socket.socket
        Bound; nobody listens before a worker does.
    until_eof : bool
        Whether to stop when standard input ends.
    """

    def __init__(
        self, settings: Settings, listener: socket.socket, workers: int, *, until_eof: bool
    ) -> None:
        self._log_level = settings.log_level
        self._stderr = LogStream()
        self._listener = listener
        self._metrics = tempfile.mkdtemp(prefix="bc-metrics-") if workers > 1 else None
        environment = dict(os.environ)
        environment.pop(_METRICS_FOLDER, None)
        environment.setdefault(*_LARGE_BLOCK)
        if self._metrics is not None:
            environment[_METRICS_FOLDER] = os.environ[_METRICS_FOLDER] = self._metrics
        run = (sys.executable, "-m")
        # How many connections each worker has: a file in memory that all of them map.
        self._shares = os.memfd_create("shares")
        for number in range(workers):
            os.pwrite(self._shares, _NO_SHARE, number * len(_NO_SHARE))
        self._workers = [
            Child(
                f"worker-{number}",
                (
                    *(*run, "bc_pipeline.serving.process.worker"),
                    *("--number", str(number), "--workers", str(workers)),
                    *("--socket", str(listener.fileno()), "--shares", str(self._shares)),
                ),
                environment,
                tells=True,
                descriptors=(listener.fileno(), self._shares),
            )
            for number in range(1, workers + 1)
        ]
        self._drainer = Child(
            "drainer",
            (*run, "bc_pipeline.records", "--until-eof"),
            environment,
            own_group=True,
        )
        self._ready: set[str] = set()
        self._announced = False
        self._stopping = False
        self._exit = 0
        self._selector = selectors.DefaultSelector()
        self._wake, self._wake_end = socket.socketpair()
        for end in (self._wake, self._wake_end):
            end.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        if until_eof:
            self._selector.register(0, selectors.EVENT_READ, None)

    def run(self) -> int:
        """Run until a signal or the end of standard input.

        Returns
        -------
        int
            0 after an orderly end; 2 where settings do not let a worker start, 1 where
            one could not start for another reason, before the service was ready.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._signalled)
        signal.set_wakeup_fd(self._wake_end.fileno(), warn_on_full_buffer=False)
        _allow_connections()
        try:
            for worker in self._workers:
                self._start(worker)
            while not self._stopping:
                self._step()
        finally:
            self._stop()
        return self._exit

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._stopping = True

    def _step(self) -> None:
        """Wait until something happens, and see to it."""
        due = [child.due for child in self._children() if child.process is None]
        pause = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in self._selector.select(pause):
            if isinstance(key.data, Child):
                self._hear(key.data)
            elif key.fileobj == 0:
                self._stopping = self._stopping or not os.read(0, 4096)
            else:
                self._wake.recv(4096)
        if self._stopping:
            return
        for child in self._children():
            if child.process is None:
                if time.monotonic() >= child.due:
                    self._start(child)
            elif child.process.poll() is not None:
                self._ended(child)

    def _children(self) -> tuple[Child, ...]:
        """The drainer waits until the workers are there: it would only delay them."""
        return (*self._workers, self._drainer) if self._announced else tuple(self._workers)

    def _start(self, child: Child) -> None:
        try:
            child.start()
        except OSError as error:
            wait = child.postpone()
            self._log("error", "process_not_started", name=child.name, reason=error.strerror)
            self._log("warning", "process_postponed", name=child.name, seconds=wait)
            return
        if child.output is not None:
            self._selector.register(child.output, selectors.EVENT_READ, child)
        assert child.process is not None
        self._log("info", "process_started", name=child.name, process=child.process.pid)

    def _hear(self, child: Child) -> None:
        """Read what a worker tells: that it listens, or why it cannot."""
        assert child.output is not None
        # A line is written at once and shorter than what a pipe takes at once.
        told = os.read(child.output.fileno(), 65536)
        for line in told.splitlines():
            match _message(line):
                case {"event": "listening"}:
                    self._ready.add(child.name)
                    self._announce()
                case {"event": "refused", "message": str(reason)} if not self._stopping:
                    self._refused(reason)
        if not told:
            self._selector.unregister(child.output)

    def _announce(self) -> None:
        if self._announced or len(self._ready) < len(self._workers):
            return
        self._announced = True
        host, port = self._listener.getsockname()[:2]
        line = {"event": "listening", "host": host, "port": port, "pid": os.getpid()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def _refused(self, reason: str) -> None:
        self._stderr.write(f"bc_pipeline.serving: {reason}\n")
        if not self._announced:
            self._stopping, self._exit = True, EXIT_REFUSED

    def _ended(self, child: Child) -> None:
        """Note the end of a process, and plan its next start."""
        assert child.process is not None
        if child.output is not None and child.output in self._selector.get_map():
            self._hear(child)
            if child.output in self._selector.get_map():
                self._selector.unregister(child.output)
        code, pid = child.process.returncode, child.process.pid
        child.forget()
        if child is not self._drainer:
            self._ready.discard(child.name)
            os.pwrite(self._shares, _NO_SHARE, self._workers.index(child) * len(_NO_SHARE))
            self._forget_metrics(child)
            if not self._announced and not self._stopping:
                self._log("error", "worker_did_not_start", name=child.name, code=code)
                self._stopping, self._exit = True, EXIT_BROKEN
                return
        wait = child.postpone()
        self._log(
            "warning", "process_ended", name=child.name, process=pid, code=code, next_start_in=wait
        )

    def _forget_metrics(self, worker: Child) -> None:
        if self._metrics is not None:
            from bc_pipeline.serving.telemetry.metrics import forget_worker

            forget_worker(worker.name)

    def _stop(self) -> None:
        """End the workers, then let the drainer finish what they wrote."""
        self._listener.close()
        os.close(self._shares)
        for worker in self._workers:
            worker.terminate()
        deadline = time.monotonic() + WORKERS_SECONDS
        for worker in self._workers:
            worker.wait(deadline)
        # It drains what the workers wrote last, and ends. One that was about to be started
        # again is needed once more.
        if self._announced and self._drainer.process is None:
            self._start(self._drainer)
        self._drainer.end_input()
        self._drainer.wait(time.monotonic() + DRAINER_SECONDS)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake.close()
        self._wake_end.close()
        if self._metrics is not None:
            shutil.rmtree(self._metrics, ignore_errors=True)

    def _log(self, level: str, event: str, **fields: object) -> None:
        """Write a line as the workers do, without loading what they use for it."""
        if level == "info" and self._log_level not in ("DEBUG", "INFO"):
            return
        moment = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        line = {"event": event, **fields, "level": level, "timestamp": moment}
        self._stderr.write(json.dumps(line) + "\n")


def _message(line: bytes) -> object:
    """What a worker told; None for what a library in it printed."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _allow_connections() -> None:
    """Have as many open files as the system allows: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where the system calls it unlimited, it is not.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
