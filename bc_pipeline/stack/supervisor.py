"""Supervise the processes of the stack: start in order, restart with back-off, stop as groups.

Run as ``python -m bc_pipeline.stack.supervisor`` in a session of its own; it writes the state
of its processes to ``stack/state.json`` and stops on SIGTERM or SIGINT.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass

import httpx
import structlog

from bc_pipeline.artifacts.files import make_directory
from bc_pipeline.managed_process import Backoff, ManagedProcess
from bc_pipeline.settings import Settings, load_settings
from bc_pipeline.stack.components import (
    Component,
    components,
    http_client,
    is_healthy,
    log_file,
)
from bc_pipeline.stack.state import (
    Phase,
    ProcessState,
    StackState,
    configured_ports,
    describe,
    save_state,
    stop_process_groups,
)

TICK_SECONDS = 0.25
PROBE_SECONDS = 5.0
BACKOFF = Backoff(first=1.0, longest=60.0, steady=60.0)
STOP_GRACE = 15.0


class ComponentProcess(ManagedProcess):
    """The process of one component, in a session and process group of its own."""

    def __init__(self, component: Component, backoff: Backoff = BACKOFF) -> None:
        super().__init__(
            component.name,
            component.command,
            backoff,
            env=component.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.component = component
        self.phase: Phase = "waiting"
        self.created: float | None = None
        self.probed = 0.0
        self.restarts = 0
        self.reason = ""

    @property
    def is_up(self) -> bool:
        return self.phase in ("ready", "done")

    def state(self) -> ProcessState:
        pid = self.process.pid if self.process else None
        return ProcessState(self.name, self.phase, pid, self.created, self.restarts, self.reason)


@dataclass
class Supervisor:
    """Runs the components until `stop` is called."""

    settings: Settings
    children: list[ComponentProcess]
    stopping: bool = False
    _saved: tuple[ProcessState, ...] = ()

    def run(self) -> None:
        log = structlog.get_logger()
        with http_client(self.settings) as client:
            log.info("supervisor.started", components=[child.name for child in self.children])
            try:
                while not self.stopping:
                    for child in self.children:
                        self._advance(child, client)
                    self._save()
                    time.sleep(TICK_SECONDS)
            finally:
                self._stop()
                log.info("supervisor.stopped")

    def stop(self, *_: object) -> None:
        self.stopping = True

    def _advance(self, child: ComponentProcess, client: httpx.Client) -> None:
        """Start a child that is due; handle one that ended or became ready."""
        now = time.monotonic()
        if child.phase == "done":
            return
        if child.process is None:
            required = [other for other in self.children if other.name in child.component.after]
            if now >= child.due and all(other.is_up for other in required):
                self._start(child)
            return
        code = child.process.poll()
        interval = PROBE_SECONDS if child.phase == "ready" else TICK_SECONDS
        if code is not None:
            self._on_exit(child, code)
        elif not child.component.runs_once and now - child.probed >= interval:
            child.probed = now
            if is_healthy(child.component, client):
                child.phase = "ready"

    def _start(self, child: ComponentProcess) -> None:
        path = log_file(self.settings, child.name)
        make_directory(path.parent)
        with path.open("ab") as log:
            pid = child.start(cwd=self.settings.home, stdout=log)
        child.phase = "starting"
        child.created = describe(child.name, pid, "starting").created
        structlog.get_logger().info("process.started", name=child.name, pid=pid)

    def _on_exit(self, child: ComponentProcess, code: int) -> None:
        """Kill the rest of the process group and schedule the restart."""
        stop_process_groups([child.state()], grace=0)
        pause = child.schedule_restart(was_ready=child.phase == "ready")
        child.created = None
        if child.component.runs_once and code == 0:
            child.phase, child.reason = "done", ""
            return
        child.phase = "backoff"
        child.reason = f"ended with {code}; see {log_file(self.settings, child.name)}"
        child.restarts += 1
        structlog.get_logger().warning(
            "process.ended",
            name=child.name,
            code=code,
            restarts=child.restarts,
            next_start_in=pause,
        )

    def _save(self) -> None:
        processes = tuple(child.state() for child in self.children)
        if processes != self._saved:
            me = describe("supervisor", os.getpid(), "ready")
            save_state(self.settings, StackState(me, processes, configured_ports(self.settings)))
            self._saved = processes

    def _stop(self) -> None:
        stop_process_groups([child.state() for child in reversed(self.children)], grace=STOP_GRACE)
        for child in self.children:
            child.wait()
            child.phase, child.created = "stopped", None
        self._save()


def main() -> None:
    settings = load_settings()
    supervisor = Supervisor(
        settings, [ComponentProcess(component) for component in components(settings)]
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, supervisor.stop)
    supervisor.run()


if __name__ == "__main__":
    main()
