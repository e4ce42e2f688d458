from __future__ import annotations

import asyncio

import pytest
import structlog

from bc_pipeline.background_loop import BackgroundLoop


def test_a_repeated_error_is_logged_once_until_an_iteration_succeeds() -> None:
    loop = BackgroundLoop("keys")
    with structlog.testing.capture_logs() as events:
        for error in (OSError(28, "No space left"), OSError(28, "No space left"), None, KeyError()):
            with loop.iteration():
                if error is not None:
                    raise error
    assert [(event["loop"], event["reason"]) for event in events] == [
        ("keys", "No space left"),
        ("keys", "KeyError"),
    ]


def test_a_failure_to_log_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(structlog, "get_logger", fail)
    with BackgroundLoop("keys").iteration():
        raise ValueError


def test_a_loop_goes_on_after_errors_of_functions_and_coroutines() -> None:
    async def run() -> list[str]:
        calls: list[str] = []

        def fail() -> None:
            calls.append("function")
            raise ValueError

        async def fail_later() -> None:
            calls.append("coroutine")
            raise ValueError

        actions = (fail, fail_later)
        tasks = [asyncio.create_task(BackgroundLoop("keys").run(0.001, one)) for one in actions]
        while min(map(calls.count, ("function", "coroutine"))) < 3:
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return calls

    assert len(asyncio.run(run())) >= 6


def test_cancellation_ends_the_loop() -> None:
    with pytest.raises(asyncio.CancelledError), BackgroundLoop("keys").iteration():
        raise asyncio.CancelledError
