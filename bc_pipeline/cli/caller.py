"""Who calls a command, with which settings, and the run that a command is.

What loads libraries is imported where it is used: completion imports every command's module.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bc_pipeline.settings import Settings
    from bc_pipeline.steps import Run


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; errors as of `settings.load_settings`."""
    from bc_pipeline import settings

    return settings.load_settings(**overrides)


def load_volume_settings() -> Settings:
    """Read the settings of a command that needs a volume.

    Raises
    ------
    ConfigError
        Also where there is no volume.
    """
    from bc_pipeline.artifacts.store_format import require_volume

    settings = load_settings()
    require_volume(settings.home)
    return settings


def require_folder(folder: Path, setting: str) -> None:
    """Refuse a folder that a setting names and that does not exist.

    Raises
    ------
    ConfigError
    """
    from bc_pipeline.errors import ConfigError

    if not folder.is_dir():
        raise ConfigError(
            f"The folder {folder} does not exist.", f"Correct {setting}.", setting=setting
        )


def actor() -> str:
    """The person at the command line, for the audit log: the system's user, not a variable.

    Under sudo it is who called it, and root is named, too: root alone can set the variable of
    root's process.
    """
    from bc_pipeline.promotion.approvals import AS_USER

    uid = os.getuid()
    caller = os.environ.get("SUDO_UID", "") if uid == 0 else ""
    if caller.isdecimal():
        return f"cli:{_named(int(caller))}{AS_USER}{_named(uid)}"
    return f"cli:{_named(uid)}"


def new_run(problem: str, as_of: str = "") -> Run:
    """A run as of the time of the option ``--as-of``, or of now."""
    from uuid import uuid4

    from bc_pipeline.clock import checked_time, format_time, now
    from bc_pipeline.steps import Run

    moment = checked_time(as_of, "--as-of") if as_of else now()
    return Run(
        problem=problem,
        run_id=f"cli__{uuid4().hex[:12]}",
        as_of=format_time(moment),
        requested_by=actor(),
    )


def _named(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        # In a container the user may have no entry.
        return f"uid {uid}"
