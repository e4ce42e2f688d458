"""Who calls a command, and the run that a command is."""

from __future__ import annotations

from getpass import getuser
from uuid import uuid4

from bc_pipeline.clock import checked_time, format_time, now
from bc_pipeline.steps import Run


def actor() -> str:
    """The person at the command line, for the audit log."""
    return f"cli:{getuser()}"


def new_run(problem: str, as_of: str = "") -> Run:
    """A run as of the time of the option ``--as-of``, or of now."""
    moment = checked_time(as_of, "--as-of") if as_of else now()
    return Run(problem=problem, run_id=f"cli__{uuid4().hex[:12]}", as_of=format_time(moment))
