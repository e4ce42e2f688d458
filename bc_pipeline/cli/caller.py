"""Who calls a command, with which settings, and the run that a command is.

What loads libraries is imported where it is used: completion imports every command's module.
"""

from __future__ import annotations

from getpass import getuser
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bc_pipeline.settings import Settings
    from bc_pipeline.steps import Run


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; errors as of `settings.load_settings`."""
    from bc_pipeline import settings

    return settings.load_settings(**overrides)


def actor() -> str:
    """The person at the command line, for the audit log."""
    return f"cli:{getuser()}"


def new_run(problem: str, as_of: str = "") -> Run:
    """A run as of the time of the option ``--as-of``, or of now."""
    from uuid import uuid4

    from bc_pipeline.clock import checked_time, format_time, now
    from bc_pipeline.steps import Run

    moment = checked_time(as_of, "--as-of") if as_of else now()
    return Run(problem=problem, run_id=f"cli__{uuid4().hex[:12]}", as_of=format_time(moment))
