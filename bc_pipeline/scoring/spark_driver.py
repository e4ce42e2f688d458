"""The driver of batch scoring on Spark: a program for the environment that has pyspark.

It reads a `BatchJob` from standard input and writes a `SparkResult` to standard output, both as
JSON; see `bc_pipeline.scoring.spark_submit`. Its log goes to standard error.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import structlog

from bc_pipeline.artifacts.files import sha256_bytes
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.artifacts.versions import open_stored
from bc_pipeline.data.countable_expectations import require_countable
from bc_pipeline.data.suite_counts import SuiteCounter
from bc_pipeline.data.suite_result import (
    require_passed,
    scoring_validation_id,
    store_validation,
)
from bc_pipeline.data.suites import SuiteFile, read_suite
from bc_pipeline.errors import (
    DataError,
    PipelineError,
    TransientError,
    counted,
    error_from_dict,
)
from bc_pipeline.scoring.batch_plan import BatchJob, output_stems
from bc_pipeline.scoring.executor_tasks import (
    FileScan,
    FileTask,
    OutputFile,
    PartReport,
    PartTask,
    TaskReport,
)
from bc_pipeline.scoring.model_package import ModelPackage, pack_model
from bc_pipeline.scoring.output_folder import commit, read_manifest, stage
from bc_pipeline.scoring.scores_manifest import make_manifest
from bc_pipeline.scoring.spark_cluster import SparkCluster
from bc_pipeline.scoring.spark_submit import SparkResult
from bc_pipeline.scoring.table_scoring import no_valid_rows
from bc_pipeline.settings import Settings, load_settings
from bc_pipeline.workspace import Workspace, open_workspace

_COUNTS = ("read", "scored", "rejected", "positive", "outside_training_range")


def main() -> None:
    """Run the job on standard input."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=BatchJob)
    # Spark and other libraries print to standard output: only the answer may go there.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        result = score(load_settings(), job)
    except PipelineError as error:
        result = SparkResult(error=error.to_dict())
    with answers:
        answers.write(msgspec.json.encode(result))


def score(settings: Settings, job: BatchJob, package: ModelPackage | None = None) -> SparkResult:
    """Score the job's files, unless their scores exist already.

    Parameters
    ----------
    package : ModelPackage, optional
        Sent to the executors; by default the job's version.

    Raises
    ------
    PipelineError
        Then there is no output folder.
    """
    workspace = open_workspace(settings, job.problem)
    suite = read_suite(workspace.problem, "scoring", settings.expectations_dir)
    require_countable(suite)
    package = package or pack_model(_open_model(workspace, job), settings.verify_key)
    with SparkCluster(job.master, f"bc-pipeline score {job.problem}") as cluster:
        files = [
            FileTask(file=number, location=location, part_bytes=job.part_bytes)
            for number, location in enumerate(job.inputs)
        ]
        scans = cluster.scan(files, package)
        _raise_failure(scans)
        digests = {
            location.name: scan.scan.sha256
            for location, scan in zip(job.inputs, scans, strict=True)
            if scan.scan is not None
        }
        output = job.output(digests)
        manifest = read_manifest(workspace.store, output)
        if manifest is None:
            with stage(output) as staged:
                tasks = _part_tasks(job, scans, staged)
                reports = _score_parts(cluster, tasks, package, suite)
                results = _BatchResults(workspace, suite, job.version)
                for scan in scans:
                    parts = [report for report in reports if report.file == scan.file]
                    name = job.inputs[scan.file].name
                    results.add(name, scan, parts)
                manifest = make_manifest(
                    job, digests, results.reports, results.refused, results.validations
                )
                commit(workspace.store, output, staged, manifest, keep=results.retained)
    return SparkResult(output=output, manifest=manifest)


def _open_model(workspace: Workspace, job: BatchJob) -> VersionFiles:
    files = open_stored(workspace.store, job.version, workspace.settings.verify_key)
    files.require_manifest(job.manifest_sha256)
    return files


def _score_parts(
    cluster: SparkCluster, tasks: Sequence[PartTask], package: ModelPackage, suite: SuiteFile
) -> list[PartReport]:
    """Score parts; those of a file with repeated ids again, without the rows of these."""
    new_counter = partial(SuiteCounter, suite)
    reports, repeated = cluster.score(tasks, package, new_counter)
    _raise_failure(reports)
    for report in reports:
        if report.refused is not None:
            repeated.pop(report.file, None)
    again = [
        msgspec.structs.replace(task, return_ids=False) for task in tasks if task.file in repeated
    ]
    corrected, _ = cluster.score(again, package, new_counter, repeated)
    _raise_failure(corrected)
    return [report for report in reports if report.file not in repeated] + corrected


def _part_tasks(job: BatchJob, scans: Sequence[FileScan], folder: str) -> list[PartTask]:
    stems = output_stems([location.name for location in job.inputs])
    return [
        PartTask(
            file=scan.file,
            part=number,
            location=job.inputs[scan.file],
            span=part,
            columns=scan.columns if number else None,
            folder=folder,
            stem=stems[scan.file],
            return_ids=scan.columns.identifier is not None,
        )
        for scan in scans
        if scan.scan is not None and scan.columns is not None
        for number, part in enumerate(scan.scan.parts)
    ]


def _raise_failure(reports: Sequence[TaskReport]) -> None:
    """Raise the first error that ends the batch, where there is one."""
    for report in reports:
        if report.failure is not None:
            raise error_from_dict(report.failure)


class _BatchResults:
    """Merges the reports of parts, file by file."""

    def __init__(self, workspace: Workspace, suite: SuiteFile, version: str) -> None:
        self._store = workspace.store
        self._feature_names = workspace.problem.schema.names
        self._suite = suite
        self._version = version
        self.refused: dict[str, str] = {}
        self.validations: list[str] = []
        self.reports: list[dict[str, Any]] = []
        # Rejected rows of the files in which no row could be scored.
        self.retained: set[str] = set()

    def add(self, name: str, scan: FileScan, parts: Sequence[PartReport]) -> None:
        """Add a file.

        Parameters
        ----------
        parts : sequence of PartReport
            In order.
        """
        reasons = [scan.refused, *(part.refused for part in parts)]
        refused = next((reason for reason in reasons if reason is not None), None)
        if refused is None:
            try:
                self.reports.append(self._merge(name, scan, parts))
            except DataError as error:
                refused = str(error)
        if refused is not None:
            # The other files of the batch keep their scores.
            self.refused[name] = refused

    def _merge(self, name: str, scan: FileScan, parts: Sequence[PartReport]) -> dict[str, Any]:
        if scan.scan is None or len(parts) != len(scan.scan.parts):
            raise TransientError(
                f"Spark reported {counted(len(parts), 'part')} of {name}, and not all."
            )
        counts: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        outside: Counter[str] = Counter()
        counter = SuiteCounter(self._suite)
        reports = [part.report for part in parts if part.report is not None]
        rejects = [part.rejects for part in parts if part.rejects]
        for part, report in zip(parts, reports, strict=True):
            counts.update({field: getattr(report, field) for field in _COUNTS})
            reasons.update(part.reasons)
            outside.update(report.outside_by_feature)
            counter.add(report.scored, part.counts)
        if not counts["scored"]:
            self.retained.update(part.name for part in rejects)
            raise no_valid_rows(name, counts["rejected"], reasons, _folder_of(rejects[0]))
        self._validate(scan.scan.sha256, counter)
        scores = [part.scores for part in parts if part.scores]
        merged = msgspec.structs.replace(
            reports[0],
            **{field: counts[field] for field in _COUNTS},
            source=name,
            source_sha256=scan.scan.sha256,
            output=_folder_of(scores[0]),
            output_sha256=sha256_bytes("".join(part.sha256 for part in scores).encode()),
            rejected_file=_folder_of(rejects[0]) if rejects else None,
            # In the order of the schema, as one machine counts them.
            outside_by_feature={
                name: outside[name] for name in self._feature_names if outside[name]
            },
        )
        return dict(msgspec.to_builtins(merged)) | {
            "parts": msgspec.to_builtins(scores),
            "rejected_parts": msgspec.to_builtins(rejects),
        }

    def _validate(self, source_sha256: str, counter: SuiteCounter) -> None:
        """Store the suite's findings in a file's rows.

        Raises
        ------
        ExpectationsFailed
        """
        validation = scoring_validation_id(self._suite, self._version, source_sha256)
        report = self._store.validation_results(validation)
        result = counter.suite_result()
        document = store_validation(
            self._store, self._suite, validation, counter.rows, result, report
        )
        self.validations.append(validation)
        require_passed(document, self._suite, report)


def _folder_of(part: OutputFile) -> str:
    return part.name.rpartition("/")[0]


if __name__ == "__main__":
    main()
