from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from time import monotonic

import pytest

from bc_pipeline import managed_process
from bc_pipeline.managed_process import Backoff, ManagedProcess

BACKOFF = Backoff(first=1.0, longest=5.0, steady=10.0)
UNTIL_EOF = "import sys; sys.stdin.read()"
STUBBORN = (
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('', flush=True); time.sleep(60)"
)


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Advances the module's clock by seconds."""
    now = 0.0

    def advance(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(managed_process, "monotonic", lambda: now)
    return advance


def make_process(code: str = "") -> ManagedProcess:
    return ManagedProcess(
        "test",
        (sys.executable, "-c", code),
        BACKOFF,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_pauses_double_up_to_the_longest(advance: Callable[[float], None]) -> None:
    process = make_process()
    pauses = [process.schedule_restart() for _ in range(5)]
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert process.due == 5.0


@pytest.mark.parametrize(
    ("seconds", "was_ready", "pause"), [(9, True, 4.0), (11, True, 1.0), (11, False, 4.0)]
)
def test_a_process_that_was_ready_and_ran_long_starts_again_after_the_first_pause(
    advance: Callable[[float], None], seconds: float, was_ready: bool, pause: float
) -> None:
    process = make_process()
    for _ in range(2):
        process.schedule_restart()
    process.start()
    assert process.process is not None
    process.process.wait()
    advance(seconds)
    assert process.schedule_restart(was_ready=was_ready) == pause
    assert process.process is None


def test_a_program_that_is_missing_raises() -> None:
    process = ManagedProcess("test", ("/does/not/exist",), BACKOFF)
    with pytest.raises(OSError, match="exist"):
        process.start()
    assert process.process is None


def test_closing_the_input_ends_the_program() -> None:
    process = make_process(UNTIL_EOF)
    process.start()
    process.close_input()
    running = process.process
    process.wait()
    assert running is not None
    assert running.returncode == 0
    assert process.output is None


def test_a_program_that_ignores_sigterm_is_killed_at_the_deadline() -> None:
    process = make_process(STUBBORN)
    process.start()
    assert process.output is not None
    process.output.readline()
    running = process.process
    process.terminate()
    process.wait(monotonic() + 0.1)
    assert running is not None
    assert running.returncode == -9
