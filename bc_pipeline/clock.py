"""Times as the volume writes them: ISO 8601, UTC, whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime

from bc_pipeline.errors import ConfigError


def format_time(moment: datetime) -> str:
    """``2026-11-15T00:00:00Z``; the moment must know its time zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 date or time; without a zone it is UTC.

    Raises
    ------
    ConfigError
        Where the text is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
        # A zone may take a moment out of the calendar.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{text!r} is not a date or time.",
            "Write it as 2026-11-15 or 2026-11-15T06:00:00Z.",
            setting="time",
        ) from None


def moment_of(seconds: float) -> datetime | None:
    """The time so many seconds after 1970; None where no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def now() -> datetime:
    return datetime.now(UTC)
