"""Runs commands of ``bc-pipeline`` in this process."""

from __future__ import annotations

from functools import cache

from click import Command
from click.testing import CliRunner, Result
from typer.main import get_command

from bc_pipeline.cli.app import app


@cache
def _command() -> Command:
    # Typer would build all commands anew for each invocation.
    return get_command(app)


def invoke(*words: str, reply: str | None = None) -> Result:
    """The result of a command, whatever its exit code; `reply` is typed at its questions."""
    return CliRunner().invoke(_command(), list(words), input=reply)


def run_command(*words: str, code: int = 0, reply: str | None = None) -> Result:
    """The result of a command that must end with an exit code."""
    result = invoke(*words, reply=reply)
    assert result.exit_code == code, result.output
    return result
