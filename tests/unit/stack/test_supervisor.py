from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bc_pipeline.settings import Settings
from bc_pipeline.stack import supervisor as supervisor_module
from bc_pipeline.stack.components import Component, log_file
from bc_pipeline.stack.state import StackState, load_state
from bc_pipeline.stack.supervisor import Child, Supervisor


@contextmanager
def running(settings: Settings, *components: Component) -> Iterator[Supervisor]:
    settings.home.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor(settings, [Child(component) for component in components])
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()
        thread.join(30)
        assert not thread.is_alive()


def wait_for(settings: Settings, condition: Callable[[StackState], bool]) -> StackState:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = load_state(settings)
        if state is not None and condition(state):
            return state
        time.sleep(0.05)
    raise AssertionError(f"not reached: {load_state(settings)}")


def gone(pid: int) -> bool:
    """Whether a process ended; one whose parent has not fetched its status counts."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_it_becomes_ready_and_leaves_no_process_of_its_groups(
    settings: Settings, server: Callable[..., Component]
) -> None:
    with running(settings, server()):
        state = wait_for(settings, lambda s: s.processes[0].phase == "ready")
        grandchild = int(log_file(settings, "server").read_text().split()[0])
        assert psutil.pid_exists(grandchild)
        pid = state.processes[0].pid
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert gone(grandchild)
    stopped = load_state(settings)
    assert stopped is not None
    assert [p.phase for p in stopped.processes] == ["stopped"]


def test_it_restarts_what_was_killed(
    settings: Settings, server: Callable[..., Component], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_BACKOFF", 0.1)
    with running(settings, server()):
        first = wait_for(settings, lambda s: s.processes[0].phase == "ready").processes[0]
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        again = wait_for(
            settings, lambda s: s.processes[0].phase == "ready" and s.processes[0].restarts == 1
        ).processes[0]
        assert again.pid != first.pid


def test_it_starts_in_order(
    settings: Settings, server: Callable[..., Component], tmp_path: Path
) -> None:
    mark = tmp_path / "migrated"
    code = f"import time, pathlib; time.sleep(0.5); pathlib.Path({str(mark)!r}).touch()"
    migrate = Component("migrate", (sys.executable, "-c", code), dict(os.environ))
    needs = f"import pathlib, sys, time; time.sleep(60 * pathlib.Path({str(mark)!r}).exists())"
    later = Component(
        "later",
        (sys.executable, "-c", needs),
        dict(os.environ),
        probe=server().probe,
        after=("migrate",),
    )
    with running(settings, migrate, server(), later):
        state = wait_for(settings, lambda s: s.processes[2].phase == "ready")
    assert [p.phase for p in state.processes] == ["done", "ready", "ready"]
    assert state.processes[2].restarts == 0


def test_a_process_that_keeps_ending_waits_longer_each_time_and_says_why(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "TICK_SECONDS", 0.02)
    failing = Component("bad", (sys.executable, "-c", "raise SystemExit(3)"), dict(os.environ))
    child = Child(failing, backoff=0.1)
    settings.home.mkdir(parents=True)
    supervisor = Supervisor(settings, [child])
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        state = wait_for(settings, lambda s: s.processes[0].restarts >= 3)
    finally:
        supervisor.stop()
        thread.join(20)
    assert child.backoff >= 0.8
    assert "ended with 3" in state.processes[0].reason
    assert str(log_file(settings, "bad")) in state.processes[0].reason


def test_health_of_a_part_is_read_from_the_page(
    settings: Settings, server: Callable[..., Component]
) -> None:
    sick = Component(
        "sick",
        (sys.executable, "-c", "import time; time.sleep(60)"),
        dict(os.environ),
        probe=server().probe,
        health_key="other",
    )
    with running(settings, server(), sick):
        wait_for(settings, lambda s: s.processes[0].phase == "ready")
        time.sleep(0.6)
        state = load_state(settings)
        assert state is not None
        assert state.processes[1].phase != "ready"
