"""The format of ``verdict.json``: the gate's decision, its checks, and the smoke test's result."""

from __future__ import annotations

from typing import Literal

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.evidence import Interval

Kind = Literal["first", "refresh", "switch"]


class Smoke(Document, frozen=True):
    """Result of the smoke test: the service's answers to the golden rows."""

    passed: bool
    rows: int
    worst_difference: float | None
    median_ms: float | None
    reason: str = ""


class Check(Document, frozen=True):
    """One line of a verdict.

    Attributes
    ----------
    blocking : bool
        False for an advisory check, which never rejects.
    rule : str
        The rule in words, such as ``"sensitivity on the holdout at least 0.9"``.
    """

    name: str
    rule: str
    passed: bool
    blocking: bool = True
    champion: float | None = None
    challenger: float | None = None
    interval: Interval | None = None
    bound: float | None = None
    note: str = ""


class Verdict(Document, frozen=True, kw_only=True):
    """The gate's decision; the format of ``verdict.json``.

    Attributes
    ----------
    better : bool
        Whether the evidence shows that the challenger is better; a refresh may pass
        without being better.
    reasons : tuple of str
        For a rejection, the finding of each failed blocking check; its rule in verdicts of
        release 0.1.
    kind_note : str
        What is special about its kind, such as ``"refresh under scikit-learn 1.8.0 -> 1.9.0"``.
    """

    format: int = 1
    problem: str
    kind: Kind
    passed: bool
    better: bool
    challenger: str
    champion: str | None
    champion_generation: int
    policy_digest: str
    rows_digest: str
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    kind_note: str = ""
