from __future__ import annotations

import asyncio

import pytest
import structlog

from bc_pipeline.serving.turns import Turns


def test_a_fault_is_told_once_until_a_turn_goes_well() -> None:
    turns = Turns("keys")
    with structlog.testing.capture_logs() as events:
        for error in (OSError(28, "No space left"), OSError(28, "No space left"), None, KeyError()):
            with turns.turn():
                if error is not None:
                    raise error
    assert [(event["loop"], event["reason"]) for event in events] == [
        ("keys", "No space left"),
        ("keys", "KeyError"),
    ]


def test_a_log_that_cannot_be_written_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(structlog, "get_logger", fail)
    with Turns("keys").turn():
        raise ValueError


def test_the_end_of_the_loop_is_let_through() -> None:
    with pytest.raises(asyncio.CancelledError), Turns("keys").turn():
        raise asyncio.CancelledError
