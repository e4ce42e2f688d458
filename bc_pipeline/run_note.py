"""The pipeline's lines in the note of an Airflow run, which people may write to as well."""

from __future__ import annotations

from collections.abc import Sequence

_PREFIX = "Ingest: "
# Length of the column in Airflow's database.
_LENGTH = 1000
_MORE = " ... The tab Gate verdict has all."


def add_lines(written: str | None, lines: Sequence[str]) -> str | None:
    """The note with our lines, below what people wrote; the same lines again change nothing."""
    if not lines:
        return written
    others = [line for line in (written or "").splitlines() if not line.startswith(_PREFIX)]
    text = "\n".join([*others, *(f"{_PREFIX}{line}" for line in lines)])
    return text if len(text) <= _LENGTH else text[: _LENGTH - len(_MORE)] + _MORE


def own_lines(note: str) -> list[str]:
    """Our lines of a note."""
    return [line.removeprefix(_PREFIX) for line in note.splitlines() if line.startswith(_PREFIX)]
