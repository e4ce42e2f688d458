from __future__ import annotations

import os
import subprocess
import sys

from bc_pipeline.settings import Settings
from bc_pipeline.stack.state import (
    ProcessState,
    StackState,
    describe,
    is_alive,
    is_supervisor_running,
    load_state,
    save_state,
    state_file,
    stop_process_groups,
    with_running_ports,
)
from tests.waiting import PATIENCE


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )


def test_another_process_with_the_same_number_is_not_taken_for_it() -> None:
    process = sleeper()
    try:
        real = describe("sleeper", process.pid, "ready")
        assert is_alive(real)
        assert real.created is not None
        impostor = ProcessState("sleeper", "ready", process.pid, real.created - 3600)
        assert not is_alive(impostor)
    finally:
        process.kill()
        process.wait()
    assert not is_alive(real)


def test_a_group_is_ended_and_a_strangers_group_is_not() -> None:
    ours, other = sleeper(), sleeper()
    try:
        state = describe("ours", ours.pid, "ready")
        created = describe("other", other.pid, "ready").created
        assert created is not None
        stale = ProcessState("stale", "ready", other.pid, created + 3600)
        stop_process_groups([state, stale], grace=5)
        ours.wait(PATIENCE)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_state_survives_writing_and_a_damaged_file_counts_as_none(settings: Settings) -> None:
    assert load_state(settings) is None
    me = describe("supervisor", os.getpid(), "ready")
    state = StackState(
        me,
        (ProcessState("service", "backoff", None, None, 2, "ended with 1"),),
        {"service_port": 8123},
    )
    save_state(settings, state)
    assert load_state(settings) == state
    assert is_supervisor_running(state)
    assert with_running_ports(settings).service_port == 8123
    assert with_running_ports(settings).airflow_port == settings.airflow_port
    state_file(settings).write_text("{")
    assert load_state(settings) is None
    assert with_running_ports(settings) == settings
    assert not is_supervisor_running(None)
