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

from bc_pipeline.managed_process import Backoff
from bc_pipeline.settings import Settings
from bc_pipeline.stack import supervisor as supervisor_module
from bc_pipeline.stack.components import Component, log_file
from bc_pipeline.stack.state import StackState, load_state
from bc_pipeline.stack.supervisor import ComponentProcess, Supervisor
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.integration

BACKOFF = Backoff(first=0.1, longest=60.0, steady=60.0)


@contextmanager
def running(settings: Settings, *components: Component) -> Iterator[Supervisor]:
    settings.home.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor(
        settings, [ComponentProcess(component, BACKOFF) for component in components]
    )
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def wait_for(settings: Settings, condition: Callable[[StackState], bool]) -> StackState:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = load_state(settings)
        if state is not None and condition(state):
            return state
        time.sleep(0.05)
    raise AssertionError(f"not reached: {load_state(settings)}")


def has_ended(pid: int) -> bool:
    """Whether a process ended; a zombie counts as ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_stopping_leaves_no_process_of_a_group(
    settings: Settings, server: Callable[..., Component]
) -> None:
    with running(settings, server()):
        state = wait_for(settings, lambda s: s.processes[0].phase == "ready")
        grandchild = int(log_file(settings, "server").read_text().split()[0])
        assert psutil.pid_exists(grandchild)
        pid = state.processes[0].pid
    assert pid is not None
    assert not psutil.pid_exists(pid)
    # The kernel ends a killed process a little later.
    wait_until(lambda: has_ended(grandchild))
    stopped = load_state(settings)
    assert stopped is not None
    assert [p.phase for p in stopped.processes] == ["stopped"]


def test_a_killed_process_is_restarted(
    settings: Settings, server: Callable[..., Component]
) -> None:
    with running(settings, server()):
        first = wait_for(settings, lambda s: s.processes[0].phase == "ready").processes[0]
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        again = wait_for(
            settings, lambda s: s.processes[0].phase == "ready" and s.processes[0].restarts == 1
        ).processes[0]
        assert again.pid != first.pid


def test_components_start_in_order(
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


def test_a_failing_process_is_restarted_after_longer_pauses_with_a_reason(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "TICK_SECONDS", 0.02)
    failing = Component("bad", (sys.executable, "-c", "raise SystemExit(3)"), dict(os.environ))
    child = ComponentProcess(failing, BACKOFF)
    settings.home.mkdir(parents=True)
    supervisor = Supervisor(settings, [child])
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        state = wait_for(settings, lambda s: s.processes[0].restarts >= 3)
    finally:
        supervisor.stop()
        thread.join(PATIENCE)
    assert child.schedule_restart() >= 0.8
    assert "ended with 3" in state.processes[0].reason
    assert str(log_file(settings, "bad")) in state.processes[0].reason


def test_the_health_page_reports_a_component(
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
