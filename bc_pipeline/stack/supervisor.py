"""Keep the processes of the stack running: start in order, restart with backoff, stop as groups.

Run as ``python -m bc_pipeline.stack.supervisor`` in a session of its own; it writes
what it knows to ``stack/state.json`` and ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import structlog

from bc_pipeline.artifacts.files import make_directory
from bc_pipeline.settings import Settings, load_settings
from bc_pipeline.stack.components import Component, answers, components, log_file, service_trust
from bc_pipeline.stack.state import (
    Phase,
    ProcessState,
    StackState,
    describe,
    ports_of,
    save_state,
    stop_groups,
)

TICK_SECONDS = 0.25
PROBE_SECONDS = 5.0
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 60.0
STEADY_SECONDS = 60.0
STOP_GRACE = 15.0


@dataclass
class Child:
    """One component as it runs now."""

    component: Component
    phase: Phase = "waiting"
    process: subprocess.Popen[bytes] | None = None
    created: float | None = None
    started: float = 0.0
    probed: float = 0.0
    restarts: int = 0
    backoff: float = FIRST_BACKOFF
    due: float = 0.0
    reason: str = ""

    @property
    def is_up(self) -> bool:
        return self.phase in ("ready", "done")

    def state(self) -> ProcessState:
        pid = self.process.pid if self.process else None
        return ProcessState(
            self.component.name, self.phase, pid, self.created, self.restarts, self.reason
        )


@dataclass
class Supervisor:
    """Runs the components until it is told to stop."""

    settings: Settings
    children: list[Child]
    stopping: bool = False
    _written: tuple[Any, ...] = field(default=())

    def run(self) -> None:
        log = structlog.get_logger()
        client = httpx.Client(timeout=2.0, trust_env=False, verify=service_trust(self.settings))
        log.info("supervisor.started", components=[c.component.name for c in self.children])
        try:
            while not self.stopping:
                for child in self.children:
                    self._advance(child, client)
                self._save()
                time.sleep(TICK_SECONDS)
        finally:
            self._stop()
            client.close()
            log.info("supervisor.stopped")

    def stop(self, *_: object) -> None:
        self.stopping = True

    def _advance(self, child: Child, client: httpx.Client) -> None:
        """Take one child one step further: start it, see it end, or see it ready."""
        now = time.monotonic()
        if child.phase == "done":
            return
        if child.process is None:
            waits = [c for c in self.children if c.component.name in child.component.after]
            if now >= child.due and all(other.is_up for other in waits):
                self._start(child)
            return
        code = child.process.poll()
        if code is not None:
            self._ended(child, code)
        elif not child.component.runs_once and now - child.probed >= self._interval(child):
            child.probed = now
            if answers(child.component, client):
                child.phase = "ready"
            if child.phase == "ready" and now - child.started > STEADY_SECONDS:
                child.backoff = FIRST_BACKOFF

    @staticmethod
    def _interval(child: Child) -> float:
        return PROBE_SECONDS if child.phase == "ready" else TICK_SECONDS

    def _start(self, child: Child) -> None:
        component = child.component
        path = log_file(self.settings, component.name)
        make_directory(path.parent)
        with path.open("ab") as log:
            child.process = subprocess.Popen(
                component.command,
                env=component.environment,
                cwd=self.settings.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child.phase = "starting"
        child.started = time.monotonic()
        child.created = describe(component.name, child.process.pid, "starting").created
        structlog.get_logger().info("process.started", name=component.name, pid=child.process.pid)

    def _ended(self, child: Child, code: int) -> None:
        """Note an end; sweep what the process left in its group, and plan the restart."""
        stop_groups([child.state()], grace=0)
        child.process = None
        child.created = None
        if child.component.runs_once and code == 0:
            child.phase, child.reason = "done", ""
            return
        child.phase = "backoff"
        child.reason = f"ended with {code}; see {log_file(self.settings, child.component.name)}"
        child.restarts += 1
        child.due = time.monotonic() + child.backoff
        structlog.get_logger().warning(
            "process.ended",
            name=child.component.name,
            code=code,
            restarts=child.restarts,
            next_start_in=child.backoff,
        )
        child.backoff = min(child.backoff * 2, LONGEST_BACKOFF)

    def _save(self) -> None:
        processes = tuple(child.state() for child in self.children)
        if processes != self._written:
            me = describe("supervisor", os.getpid(), "ready")
            save_state(self.settings, StackState(me, processes, ports_of(self.settings)))
            self._written = processes

    def _stop(self) -> None:
        stop_groups([child.state() for child in reversed(self.children)], grace=STOP_GRACE)
        for child in self.children:
            if child.process is not None:
                child.process.wait()
            child.phase, child.process, child.created = "stopped", None, None
        self._save()


def main() -> None:
    settings = load_settings()
    supervisor = Supervisor(settings, [Child(component) for component in components(settings)])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, supervisor.stop)
    supervisor.run()


if __name__ == "__main__":
    main()
