"""Notes about held batches, for people who trigger a run or look at a batch."""

from __future__ import annotations

from collections.abc import Iterable

from bc_pipeline.data.batch_history import BatchCheck, BatchFinding, BatchHistory
from bc_pipeline.data.batches import BatchDocument
from bc_pipeline.errors import counted

_FEATURES = 4
_DECIDE = (
    "`bc-pipeline batch accept {0} --reason TEXT` or `bc-pipeline batch withdraw {0}` decides."
)


def describe_check(check: BatchCheck) -> str:
    """One line: the verdict, the most certain findings of each test, the false-alarm rate."""
    rows = f"{counted(check.rows, 'row')} that no earlier batch has"
    if len(check.batches) > 1:
        rows += f" (of {len(check.batches)} small batches, checked together)"
    if check.verdict != "held":
        return f"{check.verdict}: {rows}"
    by_test: dict[str, list[BatchFinding]] = {}
    for finding in check.findings:
        by_test.setdefault(finding.test, []).append(finding)
    listed = "; ".join(_describe(test, findings) for test, findings in by_test.items())
    lowest = min(finding.p for finding in check.findings)
    reference = "champion" if check.reference else "public"
    return (
        f"held: {rows} {'differs' if check.rows == 1 else 'differ'} from the {reference} rows: "
        f"{listed}. At most {check.level:.1%} of clean batches would be held, and at most "
        f"{lowest:.1g} with a finding like the first"
    )


def _describe(test: str, findings: list[BatchFinding]) -> str:
    named = [finding.feature for finding in findings if finding.feature]
    if not named:
        return f"{test} {findings[0].statistic:.2f}"
    more = f" and {len(named) - _FEATURES} more" if len(named) > _FEATURES else ""
    return f"{test}: {', '.join(named[:_FEATURES])}{more}"


def hold_notes(held: Iterable[tuple[BatchDocument, BatchHistory]]) -> list[str]:
    """Sentences that name each held batch, why it is held, and what to do."""
    notes = []
    for batch, history in held:
        why = (
            describe_check(history.check)
            if history.check
            else "not checked, and the audit log has a decision about it that its history lacks"
        )
        notes.append(
            f"Batch {batch.batch} ({batch.source}) does not count. It is {why}. "
            + _DECIDE.format(batch.batch)
        )
    return notes
