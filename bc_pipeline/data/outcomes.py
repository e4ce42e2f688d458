"""What a suite found in a table, however it was evaluated, and how that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bc_pipeline.artifacts.files import write_atomic, write_record
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.findings import Finding, describe
from bc_pipeline.data.reports import ValidationRecord
from bc_pipeline.data.suites import SuiteFile
from bc_pipeline.errors import ExpectationsFailed


@dataclass(frozen=True)
class Outcome:
    """What a suite found in a table.

    Attributes
    ----------
    failed, warnings : tuple of Finding
        Of critical expectations, and of those that only warn; in the suite's order.
    results : tuple of dict
        Every expectation with what was found, as JSON values.
    """

    failed: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    results: tuple[dict[str, Any], ...]

    @property
    def passed(self) -> bool:
        return not self.failed


def outcome_of(results: tuple[dict[str, Any], ...]) -> Outcome:
    """Tell failures from warnings.

    Parameters
    ----------
    results : tuple of dict
        One for each expectation: ``type``, ``kwargs``, ``severity``, ``success``, ``result``.
    """
    failed: list[Finding] = []
    doubted: list[Finding] = []
    for result in results:
        if not result["success"]:
            finding = describe(result["type"], result["kwargs"], result["result"])
            (failed if result["severity"] == "critical" else doubted).append(finding)
    return Outcome(tuple(failed), tuple(doubted), results)


def keep(
    store: Store, suite: SuiteFile, validation: str, rows: int, outcome: Outcome, report: Path
) -> ValidationRecord:
    """Store what was found under the id of the validation.

    Parameters
    ----------
    report : Path
        Where people read about it.
    """
    record = ValidationRecord(
        validation=validation,
        problem=suite.problem,
        purpose=suite.purpose,
        suite_sha256=suite.sha256,
        rows=rows,
        expectations=len(suite.declared),
        passed=outcome.passed,
        failed=tuple(finding.text for finding in outcome.failed),
        warnings=tuple(finding.text for finding in outcome.warnings),
        report=report.relative_to(store.home).as_posix(),
    )
    plain = {"validation": validation, "suite": suite.name, "results": outcome.results}
    write_atomic(
        store.validation_results(validation),
        msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n",
    )
    write_record(store.validation_record(validation), record)
    return record


def require_passed(record: ValidationRecord, suite: SuiteFile, report: Path) -> None:
    """Raise where a critical expectation failed.

    Raises
    ------
    ExpectationsFailed
    """
    if not record.passed:
        raise ExpectationsFailed(
            f"{len(record.failed)} of {record.expectations} expectations of suite {suite.name} "
            f"failed on {record.rows} rows: {'; '.join(record.failed)}.",
            f"See {report}.",
            suite=suite.name,
            failed=record.failed,
            report=str(report),
        )
