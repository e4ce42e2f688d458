"""The result of a suite on a table: failures and warnings, and the files they are stored in."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.signed_document import write_signed, write_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.failed_expectations import FailedExpectation, describe_failure
from bc_pipeline.data.suites import Purpose, SuiteFile
from bc_pipeline.errors import ExpectationsFailed, counted


class ValidationDocument(Document, frozen=True):
    """The result of one suite on one table.

    Attributes
    ----------
    validation : str
        Id: a digest of the bytes of the suite and of the table, or as of `scoring_validation_id`.
    purpose : {"labelled", "scoring"}
    expectations : int
        Number of expectations in the suite; all were evaluated.
    passed : bool
        No critical expectation failed.
    failed, warnings : tuple of str
        One sentence for each failed expectation: critical ones, and those that only warn.
    report : str
        Page of the Data Docs, or the file of results where there is no page; relative to
        ``BC_HOME``.
    """

    validation: str
    problem: str
    purpose: Purpose
    suite_sha256: str
    rows: int
    expectations: int
    passed: bool
    failed: tuple[str, ...]
    warnings: tuple[str, ...]
    report: str


@dataclass(frozen=True)
class SuiteResult:
    """The result of a suite on a table.

    Attributes
    ----------
    failed, warnings : tuple of FailedExpectation
        Critical expectations, and those that only warn; in the suite's order.
    results : tuple of dict
        Every expectation with its result, as JSON values.
    """

    failed: tuple[FailedExpectation, ...]
    warnings: tuple[FailedExpectation, ...]
    results: tuple[dict[str, Any], ...]

    @property
    def passed(self) -> bool:
        return not self.failed


def summarize_results(results: tuple[dict[str, Any], ...]) -> SuiteResult:
    """Divide failed expectations into critical ones and warnings.

    Parameters
    ----------
    results : tuple of dict
        For each expectation ``type``, ``kwargs``, ``severity``, ``success``, ``result``.
    """
    failed: list[FailedExpectation] = []
    warnings: list[FailedExpectation] = []
    for result in results:
        if not result["success"]:
            failure = describe_failure(result["type"], result["kwargs"], result["result"])
            (failed if result["severity"] == "critical" else warnings).append(failure)
    return SuiteResult(tuple(failed), tuple(warnings), results)


def scoring_validation_id(suite: SuiteFile, version: str, source_sha256: str) -> str:
    """Id of a validation of the rows of a file that a version scores; one for every engine."""
    inputs = f"scoring {suite.sha256} {version} {source_sha256}"
    return hashlib.sha256(inputs.encode()).hexdigest()[:16]


def store_validation(
    store: Store, suite: SuiteFile, validation: str, rows: int, result: SuiteResult, report: Path
) -> ValidationDocument:
    """Store a result under the id of its validation.

    Parameters
    ----------
    report : Path
        File with the result for people.
    """
    document = ValidationDocument(
        validation=validation,
        problem=suite.problem,
        purpose=suite.purpose,
        suite_sha256=suite.sha256,
        rows=rows,
        expectations=len(suite.declared),
        passed=result.passed,
        failed=tuple(failure.text for failure in result.failed),
        warnings=tuple(failure.text for failure in result.warnings),
        report=report.relative_to(store.home).as_posix(),
    )
    details = {"validation": validation, "suite": suite.name, "results": result.results}
    write_signed(
        store,
        store.validation_results(validation),
        msgspec.json.format(msgspec.json.encode(details), indent=2) + b"\n",
    )
    write_signed_document(store, store.validation_document(validation), document)
    return document


def log_validation(document: ValidationDocument, started: float) -> None:
    """Log the end of a validation.

    Parameters
    ----------
    started : float
        Its start on the monotonic clock.
    """
    structlog.get_logger().info(
        "validated",
        problem=document.problem,
        purpose=document.purpose,
        validation=document.validation,
        rows=document.rows,
        expectations=document.expectations,
        failed=len(document.failed),
        warnings=len(document.warnings),
        seconds=round(time.monotonic() - started, 3),
    )


def require_passed(validation: ValidationDocument, suite: SuiteFile, report: Path) -> None:
    """Raise where a critical expectation failed.

    Raises
    ------
    ExpectationsFailed
    """
    if not validation.passed:
        raise ExpectationsFailed(
            f"{len(validation.failed)} of {validation.expectations} expectations of suite "
            f"{suite.name} failed on {counted(validation.rows, 'row')}: "
            f"{'; '.join(validation.failed)}.",
            f"See {report}.",
            suite=suite.name,
            failed=validation.failed,
            report=str(report),
        )
