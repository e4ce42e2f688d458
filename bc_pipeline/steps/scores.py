"""Batch scoring with the champion."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from bc_pipeline.artifacts.files import (
    encode_record,
    read_record,
    sha256_file,
    staged_directory,
)
from bc_pipeline.artifacts.versions import VersionFiles, open_champion
from bc_pipeline.errors import DataError, Defect, FileRefused, TransientError
from bc_pipeline.steps.batches import (
    MANIFEST,
    ScoresManifest,
    batch_name,
    choose_engine,
    find_inputs,
    interval_of,
    output_stems,
)
from bc_pipeline.steps.run import Result, Room, Run, enter, origin_of
from bc_pipeline.steps.spark_job import score_on_spark
from bc_pipeline.tables import Openable, Place

if TYPE_CHECKING:
    import numpy as np

    from bc_pipeline.scoring.stream import ScoreReport

Progress = Callable[[int, int, int], None]


def score(problem: str, source: Path, target: Path, progress: Progress | None = None) -> Result:
    """Score one file with the champion.

    Raises
    ------
    NoChampion, FileRefused, SchemaMismatch, ExpectationsFailed
    """
    room = enter(problem)
    champion = _champion(room)
    report, validations = _score(room, champion, source, target, progress)
    return dict(msgspec.to_builtins(report)) | {"validations": list(validations)}


def batch_score(run: Run, source: str | None = None, engine: str = "local") -> Result:
    """Score every file of the worklist that had arrived by the run's as-of time.

    The scores stand in a folder that is named by the interval, the champion and the
    inputs, and appears as a whole: the same run again finds it and does nothing.

    Parameters
    ----------
    source : str, optional
        A file, folder or pattern to score instead of the worklist; for Spark also a URL.
    engine : {"auto", "local", "spark"}
        Whether this machine scores or a Spark cluster; ``auto`` goes by the inputs' size.

    Raises
    ------
    NoChampion
    NotStored
        Where there is nothing to score.
    FileRefused
        Naming the files that could not be scored, after the scores of the rest were written.
    ConfigError
        Where the engine cannot be had, or cannot read the source.
    TransientError
        Where a file changed while it was scored, or the cluster gave up.
    """
    room = enter(run.problem)
    champion = _champion(room)
    found = find_inputs(room, run, source)
    if choose_engine(engine, found, room.settings) == "spark":
        output, stored = score_on_spark(room, run, champion, found)
    else:
        output, stored = _score_here(room, run, champion, [each.place for each in found])
    output = output.removeprefix(f"{room.store.home}/")
    if stored.refused:
        raise FileRefused(
            f"{len(stored.refused)} of {len(stored.inputs)} files could not be scored; "
            f"the scores of the rest are in {output}.",
            "Correct these files, or take them out of the worklist.",
            source=str(source or room.store.worklist),
            defects=tuple(Defect(f"{name}: {why}") for name, why in stored.refused.items()),
        )
    return {
        "output": output,
        "version": stored.version,
        "read": stored.read,
        "scored": stored.scored,
        "rejected": stored.rejected,
    }


def _score_here(
    room: Room, run: Run, champion: VersionFiles, places: Sequence[Place]
) -> tuple[str, ScoresManifest]:
    """Score files on this machine; gives the folder of the scores and its manifest."""
    inputs = {place.name: sha256_file(Path(place.url)) for place in places}
    version = champion.manifest.version
    interval = interval_of(run.interval_start, run.as_of)
    final = room.store.scores / interval / batch_name(version, inputs)
    if not final.exists():
        with staged_directory(final) as staged:
            refused: dict[str, str] = {}
            done = []
            for place, name in zip(places, _output_names(places), strict=True):
                try:
                    report, validated = _score(room, champion, place, staged / name)
                    done.append((_placed(report, name), validated))
                except DataError as error:
                    # A bad file must not keep the scores of the others back.
                    refused[place.name] = str(error)
            reports = [report for report, _ in done]
            _require_unchanged(inputs, reports)
            manifest = ScoresManifest(
                problem=run.problem,
                version=version,
                manifest_sha256=champion.manifest_sha256,
                interval_start=run.interval_start,
                as_of=run.as_of,
                inputs=inputs,
                refused=refused,
                read=sum(report.read for report in reports),
                scored=sum(report.scored for report in reports),
                rejected=sum(report.rejected for report in reports),
                validations=tuple(name for _, names in done for name in names),
                reports=tuple(msgspec.to_builtins(report) for report in reports),
                origin=origin_of(run),
            )
            (staged / MANIFEST).write_bytes(encode_record(manifest))
    return str(final), read_record(final / MANIFEST, ScoresManifest)


def newest_scores(problem: str) -> str | None:
    """Folder of the batch scores that were written last; None where there are none."""
    found = enter(problem).store.scores.glob(f"*/*/{MANIFEST}")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return str(newest.parent) if newest else None


def _placed(report: ScoreReport, name: str) -> ScoreReport:
    """The report of a file with its outputs named by their path in the batch's folder."""
    folder = PurePosixPath(name).parent
    aside = report.rejected_file
    return msgspec.structs.replace(
        report, output=name, rejected_file=str(folder / aside) if aside else None
    )


def _output_names(places: Sequence[Place]) -> list[str]:
    stems = output_stems([place.name for place in places])
    return [
        f"{stem}.scores{place.suffix.lower()}" for stem, place in zip(stems, places, strict=True)
    ]


def _require_unchanged(inputs: Mapping[str, str], reports: Sequence[ScoreReport]) -> None:
    """The folder is named by the inputs' digests: what was scored must be those very bytes."""
    changed = [report.source for report in reports if report.source_sha256 != inputs[report.source]]
    if changed:
        raise TransientError(
            f"{', '.join(changed)} changed while it was scored.",
            "Put a file there under a name that starts with a dot, and rename it when it is "
            "complete.",
        )


def _champion(room: Room) -> VersionFiles:
    settings = room.settings
    return open_champion(room.store, settings.verify_key, settings.artifact_cipher())


def _score(
    room: Room,
    champion: VersionFiles,
    source: Openable,
    target: Path,
    progress: Progress | None = None,
) -> tuple[ScoreReport, tuple[str, ...]]:
    """Score one file; also the ids of the validations of its rows."""
    from bc_pipeline.artifacts.predictors import load_predictor
    from bc_pipeline.scoring.stream import score_file

    suite = _ScoringSuite(room)
    report = score_file(
        load_predictor(champion, room.settings.threads),
        champion.manifest.feature_schema,
        champion.manifest.label_set,
        source,
        target,
        progress=progress,
        validate=suite,
    )
    return report, tuple(suite.validations)


@dataclass
class _ScoringSuite:
    """Holds rows that are about to be scored against the problem's scoring suite."""

    room: Room
    validations: list[str] = field(default_factory=list)

    def __call__(self, names: Sequence[str], values: np.ndarray) -> None:
        from bc_pipeline.data.validation import validate

        record = validate(
            self.room.problem,
            "scoring",
            values=values,
            keys=names,
            codes=None,
            store=self.room.store,
            expectations_dir=self.room.settings.expectations_dir,
            # A page for the first portion of a file: it shows what the suite looks at.
            docs=not self.validations,
        )
        self.validations.append(record.validation)
        # A validation leaves cycles with whole columns in them: over a large file they add
        # up to hundreds of megabytes before the collector looks by itself.
        gc.collect()
