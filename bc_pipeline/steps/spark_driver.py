"""The driver of batch scoring on Spark: a program of the environment that has pyspark.

It is told its job on standard input and tells what came of it on standard output, both as
JSON; see `bc_pipeline.steps.spark_job`. Its log goes to standard error.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog

from bc_pipeline.artifacts.files import sha256_bytes
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.versions import open_stored
from bc_pipeline.data.outcomes import keep, require_passed
from bc_pipeline.data.suites import SuiteFile, read_suite
from bc_pipeline.data.tallies import Tally, asks_unique_ids, require_countable
from bc_pipeline.errors import (
    ArtifactCorrupt,
    DataError,
    PipelineError,
    TransientError,
    error_of,
)
from bc_pipeline.scoring.parts import (
    FileScan,
    FileTask,
    PartReport,
    PartTask,
    Shipment,
    Written,
    ship,
)
from bc_pipeline.scoring.spark import Cluster
from bc_pipeline.scoring.stream import ScoreReport, nothing_left
from bc_pipeline.steps.batches import ScoresManifest, batch_name, interval_of, output_stems
from bc_pipeline.steps.run import Room, enter
from bc_pipeline.steps.score_folders import open_folder
from bc_pipeline.steps.spark_job import SparkAnswer, SparkJob


def main() -> None:
    """Do the job on standard input."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=SparkJob)
    # What Spark, or anything else, prints must not come between the answer's lines.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        answer = score(job)
    except PipelineError as error:
        answer = SparkAnswer(error=error.to_dict())
    with answers:
        answers.write(msgspec.json.encode(answer))


def score(job: SparkJob, shipment: Shipment | None = None) -> SparkAnswer:
    """Score the job's files, or find that this was done before.

    Parameters
    ----------
    shipment : Shipment, optional
        What is sent to the executors; the job's version unless told.

    Raises
    ------
    PipelineError
        Then nothing stands where the scores would.
    """
    room = enter(job.problem)
    suite = read_suite(room.problem, "scoring", room.settings.expectations_dir)
    require_countable(suite)
    champion = open_stored(room.store, job.version, room.settings.verify_key)
    if champion.manifest_sha256 != job.manifest_sha256:
        raise ArtifactCorrupt(f"The manifest of {job.version} is not the one that was released.")
    shipment = shipment or ship(champion, room.settings.verify_key)
    with Cluster(job.master, f"bc-pipeline score {job.problem}") as cluster:
        scans = cluster.scan(
            [
                FileTask(file=number, place=place, part_bytes=job.part_bytes)
                for number, place in enumerate(job.inputs)
            ],
            shipment,
        )
        _require_sound(scans)
        digests = {
            place.name: scan.scan.sha256
            for place, scan in zip(job.inputs, scans, strict=True)
            if scan.scan is not None
        }
        interval = interval_of(job.interval_start, job.as_of)
        folder = open_folder(f"{job.root}/{interval}/{batch_name(job.version, digests)}")
        manifest = folder.stored()
        if manifest is None:
            with folder.staged() as staged:
                tasks = _part_tasks(job, scans, staged.url, asks_unique_ids(suite))
                reports, repeated = cluster.score(tasks, shipment, partial(Tally, suite))
                _require_sound(reports)
                files = _Files(room, suite, champion.manifest)
                for scan in scans:
                    mine = [report for report in reports if report.file == scan.file]
                    files.add(job.inputs[scan.file].name, scan, mine, repeated.get(scan.file, 0))
                manifest = files.manifest(job, digests)
                staged.commit(manifest)
    return SparkAnswer(output=folder.url, manifest=manifest)


def _part_tasks(
    job: SparkJob, scans: Sequence[FileScan], folder: str, unique: bool
) -> list[PartTask]:
    stems = output_stems([place.name for place in job.inputs])
    tasks = []
    for found in scans:
        if found.refused is not None or found.scan is None:
            continue
        split = found.dialect != "parquet"
        for number, part in enumerate(found.scan.parts):
            tasks.append(
                PartTask(
                    file=found.file,
                    part=number,
                    place=job.inputs[found.file],
                    span=part if split else None,
                    columns=found.columns if number else None,
                    sha256=part.sha256,
                    folder=folder,
                    stem=stems[found.file],
                    names=unique and found.has_ids,
                )
            )
    return tasks


def _require_sound(told: Sequence[FileScan] | Sequence[PartReport]) -> None:
    """Raise the first error for which nothing can be scored."""
    for each in told:
        if each.failure is not None:
            raise error_of(each.failure)


class _Files:
    """Puts what was told of parts together, file by file."""

    def __init__(self, room: Room, suite: SuiteFile, model: Manifest) -> None:
        self._room = room
        self._suite = suite
        self._model = model
        self._refused: dict[str, str] = {}
        self._validations: list[str] = []
        self._reports: list[dict[str, Any]] = []

    def add(self, name: str, scan: FileScan, parts: Sequence[PartReport], repeated: int) -> None:
        """Add a file.

        Parameters
        ----------
        parts : sequence of PartReport
            In order.
        repeated : int
            How many rows have an id that another row of the file has too.
        """
        refused = [scan.refused, *(part.refused for part in parts)]
        why = next((reason for reason in refused if reason is not None), None)
        if why is None:
            try:
                self._reports.append(self._report(name, scan, parts, repeated))
            except DataError as error:
                why = str(error)
        if why is not None:
            # A bad file must not keep the scores of the others back.
            self._refused[name] = why

    def _report(
        self, name: str, scan: FileScan, parts: Sequence[PartReport], repeated: int
    ) -> dict[str, Any]:
        if scan.scan is None or len(parts) != len(scan.scan.parts):
            raise TransientError(f"Spark told of {len(parts)} parts of {name}, and not of all.")
        total: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        tally = Tally(self._suite)
        for part in parts:
            total.update({field: getattr(part, field) for field in _SUMS})
            reasons.update(part.reasons)
            tally.add(part.scored, part.counts)
        if not total["scored"]:
            raise nothing_left(name, total["rejected"], reasons)
        self._validate(scan.scan.sha256, tally, repeated)
        scores = [part.scores for part in parts if part.scores]
        rejects = [part.rejects for part in parts if part.rejects]
        report = ScoreReport(
            **{field: total[field] for field in _SUMS},
            version=self._model.version,
            dialect=scan.dialect,
            source=name,
            source_sha256=scan.scan.sha256,
            output=_folder_of(scores[0]),
            output_sha256=sha256_bytes("".join(part.sha256 for part in scores).encode()),
            rejected_file=_folder_of(rejects[0]) if rejects else None,
        )
        return dict(msgspec.to_builtins(report)) | {
            "parts": msgspec.to_builtins(scores),
            "rejected_parts": msgspec.to_builtins(rejects),
        }

    def _validate(self, source_sha256: str, tally: Tally, repeated: int) -> None:
        """Keep what the suite found in a file's rows.

        Raises
        ------
        ExpectationsFailed
        """
        store = self._room.store
        words = f"spark {self._suite.sha256} {self._model.version} {source_sha256}"
        validation = sha256_bytes(words.encode())[:16]
        report = store.validation_results(validation)
        outcome = tally.outcome(repeated)
        record = keep(store, self._suite, validation, tally.rows, outcome, report)
        self._validations.append(validation)
        require_passed(record, self._suite, report)

    def manifest(self, job: SparkJob, digests: Mapping[str, str]) -> ScoresManifest:
        return ScoresManifest(
            problem=job.problem,
            version=job.version,
            manifest_sha256=job.manifest_sha256,
            interval_start=job.interval_start,
            as_of=job.as_of,
            inputs=dict(digests),
            refused=self._refused,
            read=sum(report["read"] for report in self._reports),
            scored=sum(report["scored"] for report in self._reports),
            rejected=sum(report["rejected"] for report in self._reports),
            validations=tuple(self._validations),
            reports=tuple(self._reports),
            origin=job.origin,
        )


_SUMS = ("read", "scored", "rejected", "positive")


def _folder_of(part: Written) -> str:
    return part.name.rpartition("/")[0]


if __name__ == "__main__":
    main()
