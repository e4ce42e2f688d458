"""What a verdict found, failures first, and how its challenger was chosen, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bc_airflow.volume import Judged
from bc_pipeline.artifacts.findings import finding
from bc_pipeline.artifacts.verdict import Check, Verdict

_GAIN_CHECK = "recipe_gain"


@dataclass(frozen=True)
class Findings:
    """The checks of a verdict by their results.

    Attributes
    ----------
    failed, advisory : tuple of (str, str)
        Finding and note of each check that failed and rejects, or does not reject.
    checks : tuple of Check
        All of them, those that failed first.
    """

    failed: tuple[tuple[str, str], ...]
    advisory: tuple[tuple[str, str], ...]
    checks: tuple[Check, ...]


def findings_of(verdict: Verdict) -> Findings:
    failed = [check for check in verdict.checks if not check.passed]
    return Findings(
        tuple(_described(check) for check in failed if check.blocking),
        tuple(_described(check) for check in failed if not check.blocking),
        tuple(sorted(verdict.checks, key=lambda check: (check.passed, not check.blocking))),
    )


def _described(check: Check) -> tuple[str, str]:
    """Finding and note, where the finding does not have the note already."""
    text = finding(check)
    return text, "" if check.note.rstrip(".") in text else check.note


def how_chosen(judged: Judged, challengers: Sequence[Judged], why_selected: str) -> list[str]:
    """Why this challenger was trained, and why it won or another one did."""
    return [*_origin(judged, why_selected), *_rank(judged, challengers), *_gain(judged.verdict)]


def _origin(judged: Judged, why_selected: str) -> Iterator[str]:
    if judged.manifest.lineage.refit:
        yield "It is the champion's recipe, fitted again on the rows of this run."
    elif why_selected:
        yield f"Selected by cross-validation: {why_selected}"


def _rank(judged: Judged, challengers: Sequence[Judged]) -> Iterator[str]:
    others = [each for each in challengers if each is not judged]
    if not others or not judged.verdict.passed:
        return
    if judged is not challengers[0]:
        yield "It passed too; the selected candidate comes before the champion's recipe."
    elif any(each.verdict.passed for each in others):
        yield "Other challengers passed too; the selected candidate comes first."
    else:
        yield f"Of {len(challengers)} challengers, it is the only one that passed the gate."


def _gain(verdict: Verdict) -> Iterator[str]:
    if not verdict.passed:
        return
    if verdict.kind == "first":
        yield "There was no champion to compare with: it met every floor."
    elif verdict.kind == "switch":
        notes = [check.note for check in verdict.checks if check.name == _GAIN_CHECK]
        yield " ".join(["It is better than the champion's recipe.", *notes])
    elif verdict.better:
        yield "On the same holdout rows it is shown to be better than the champion."
    else:
        yield "On the same holdout rows it is within the gate's tolerance of the champion."
        if any(check.name == "data_age" and check.passed for check in verdict.checks):
            yield "Its data are no older than the champion's."
