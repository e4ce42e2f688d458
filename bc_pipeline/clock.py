"""Times in the format of the volume: ISO 8601, UTC, whole seconds. And waiting.

`checked_time` and `time_defect` hold a time against the clock. They belong where a time comes in
(an option, a Param, a field of a request, a file's modification time) and not where a stored
document is read: what is stored stays readable.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from bc_pipeline.errors import ConfigError

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)
"""How far a time may be ahead of the clock: time zones differ by up to a day."""


def format_time(moment: datetime) -> str:
    """Format a time that has a zone as ``2026-11-15T00:00:00Z``."""
    moment = moment.astimezone(UTC)
    # `%Y` does not pad years below 1000.
    return f"{moment.year:04}-{moment:%m-%dT%H:%M:%SZ}"


def time_defect(moment: datetime, at: datetime | None = None) -> str | None:
    """The defect of a time, as a phrase without its subject; None where it is plausible.

    Parameters
    ----------
    moment : datetime
        With its time zone.
    at : datetime, optional
        The current time; default: that of the machine's clock.
    """
    at = at or now()
    if moment < EARLIEST:
        return f"lies before {EARLIEST.year}"
    return "lies more than a day ahead of the clock" if moment - at > AHEAD else None


def file_time_defect(modified: float) -> str | None:
    """Why a file with this time of modification is refused, and what to do; None where it is not.

    Parameters
    ----------
    modified : float
        Seconds since 1970.
    """
    moment = time_of_seconds(modified)
    defect = "lies outside the calendar" if moment is None else time_defect(moment)
    if defect is None:
        return None
    shown = f"at {format_time(moment)}, which" if moment else "at a time that"
    return f"was last modified {shown} {defect}. Set its time with `touch`."


def checked_time(value: str | datetime, name: str, at: datetime | None = None) -> datetime:
    """Read a time that comes from outside, and hold it against the clock.

    Parameters
    ----------
    value : str or datetime
        As of `parse_time`, or a time with its zone.
    name : str
        Of the option, Param or setting, for the message.
    at : datetime, optional
        As of `time_defect`.

    Raises
    ------
    ConfigError
        Where it is no time, more than a day ahead of the clock, or before 1900.
    """
    moment = parse_time(value, name) if isinstance(value, str) else value
    at = at or now()
    defect = time_defect(moment, at)
    if defect:
        raise ConfigError(
            f"{name} is {format_time(moment)}, which {defect}.",
            f"This machine's clock says {format_time(at)}: correct the one that is wrong.",
            setting=name,
        )
    return moment


def parse_time(text: str, name: str = "time") -> datetime:
    """Read an ISO 8601 date or time; without a zone it is UTC.

    Parameters
    ----------
    name : str
        Name of the option or field that holds the text, for the error.

    Raises
    ------
    ConfigError
        Where the text is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
        # Converting to UTC may leave the calendar.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{text!r} is not a date or time.",
            "Write it as 2026-11-15 or 2026-11-15T06:00:00Z.",
            setting=name,
        ) from None


def time_of_seconds(seconds: float) -> datetime | None:
    """Return the time of seconds since 1970; None outside the calendar."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def format_seconds(seconds: float) -> str:
    """Format seconds since 1970, as `format_time`."""
    return format_time(datetime.fromtimestamp(seconds, UTC))


def now() -> datetime:
    return datetime.now(UTC)


def poll(seconds: float, pause: float) -> Iterator[None]:
    """Iterate at once and after each pause, until the seconds have passed."""
    deadline = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() > deadline:
            return
        time.sleep(pause)
