"""What the pipeline writes to an Airflow run: its caller, and lines in the note.

People may write to the note, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bc_pipeline.conclusion import Conclusion

# Member of a run's configuration in which the prediction service names its caller.
REQUESTED_BY = "requested_by"
# The user of Airflow as which the service of a deployment starts retrains.
SERVICE_USER = "service"
_INGEST, _RESULT = "Ingest: ", "Result: "
# Length of the column in Airflow's database.
_LENGTH = 1000
_REASON = 500
_MORE = " ... The tab Gate verdict has all."


@dataclass(frozen=True)
class Concluded:
    """How a run ended, and why in a sentence."""

    conclusion: Conclusion
    reason: str

    def __str__(self) -> str:
        reason = " ".join(self.reason.split())
        cut = reason if len(reason) <= _REASON else f"{reason[: _REASON - 4]} ..."
        return f"{_RESULT}{self.conclusion} ({self.conclusion.text}). {cut}".rstrip()


def add_lines(
    written: str | None, lines: Sequence[str], concluded: Concluded | None = None
) -> str | None:
    """The note with our lines, below what people wrote; the same lines again change nothing."""
    if not lines and concluded is None:
        return written
    theirs = [
        line for line in (written or "").splitlines() if not line.startswith((_INGEST, _RESULT))
    ]
    ours = [*([str(concluded)] if concluded else []), *(f"{_INGEST}{line}" for line in lines)]
    text = "\n".join([*theirs, *ours])
    return text if len(text) <= _LENGTH else text[: _LENGTH - len(_MORE)] + _MORE


def own_lines(note: str) -> list[str]:
    """Our lines of a note about what ingest did not take."""
    return [line.removeprefix(_INGEST) for line in note.splitlines() if line.startswith(_INGEST)]


def read_concluded(note: str) -> Concluded | None:
    """How the run ended, as its note says; None where it has not ended."""
    for line in note.splitlines():
        name, _, rest = line.removeprefix(_RESULT).partition(" (")
        if line.startswith(_RESULT) and name in set(Conclusion):
            conclusion = Conclusion(name)
            return Concluded(conclusion, rest.removeprefix(f"{conclusion.text}). "))
    return None
