"""Batch scoring with the champion."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.artifacts.files import (
    encode_record,
    read_record,
    sha256_bytes,
    sha256_file,
    staged_directory,
)
from bc_pipeline.artifacts.versions import VersionFiles, open_champion
from bc_pipeline.clock import parse_time
from bc_pipeline.errors import DataError, Defect, FileRefused, NotStored, TransientError
from bc_pipeline.steps.run import Origin, Result, Room, Run, enter, origin_of

if TYPE_CHECKING:
    import numpy as np

    from bc_pipeline.scoring.stream import ScoreReport

MANIFEST = "manifest.json"
SUFFIXES = (".csv", ".parquet")
Progress = Callable[[int, int, int], None]


class ScoresManifest(Record, frozen=True, kw_only=True):
    """What a folder of batch scores was made of; the format of its ``manifest.json``.

    Attributes
    ----------
    inputs : dict of str to str
        Name of each input file, and its SHA-256.
    refused : dict of str to str
        Name of each input file that could not be scored, and why.
    validations : tuple of str
        Ids of the scoring suite's results, in portions of the rows.
    reports : tuple of dict
        For each input file, what came of it.
    origin : Origin or None
        None in format 1, which did not say.
    """

    format: int = 2
    problem: str
    version: str
    manifest_sha256: str
    interval_start: str | None
    as_of: str
    inputs: dict[str, str]
    refused: dict[str, str]
    read: int
    scored: int
    rejected: int
    validations: tuple[str, ...]
    reports: tuple[dict[str, object], ...]
    origin: Origin | None = None


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


def batch_score(run: Run, source: str | None = None) -> Result:
    """Score every file of the worklist that had arrived by the run's as-of time.

    The scores stand in a folder that is named by the interval, the champion and the
    inputs, and appears as a whole: the same run again finds it and does nothing.

    Parameters
    ----------
    source : str, optional
        A file or folder to score instead of the worklist.

    Raises
    ------
    NoChampion
    NotStored
        Where there is nothing to score.
    FileRefused
        Naming the files that could not be scored, after the scores of the rest were written.
    TransientError
        Where a file changed while it was scored.
    """
    room = enter(run.problem)
    champion = _champion(room)
    paths = _inputs(room, run, source)
    inputs = {path.name: sha256_file(path) for path in paths}
    digest = sha256_bytes(msgspec.json.encode(inputs, order="deterministic"))[:8]
    version = champion.manifest.version
    interval = parse_time(run.interval_start or run.as_of)
    final = room.store.scores / f"{interval:%Y%m%dT%H%M%SZ}" / f"{version}-{digest}"
    if not final.exists():
        with staged_directory(final) as staged:
            refused: dict[str, str] = {}
            done = []
            for path, name in zip(paths, _output_names(paths), strict=True):
                try:
                    done.append(_score(room, champion, path, staged / name))
                except DataError as error:
                    # A bad file must not keep the scores of the others back.
                    refused[path.name] = str(error)
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
    stored = read_record(final / MANIFEST, ScoresManifest)
    if stored.refused:
        raise FileRefused(
            f"{len(stored.refused)} of {len(stored.inputs)} files could not be scored; "
            f"the scores of the rest are in {final.relative_to(room.store.home)}.",
            "Correct these files, or take them out of the worklist.",
            source=str(source or room.store.worklist),
            defects=tuple(Defect(f"{name}: {why}") for name, why in stored.refused.items()),
        )
    return {
        "output": str(final.relative_to(room.store.home)),
        "version": stored.version,
        "read": stored.read,
        "scored": stored.scored,
        "rejected": stored.rejected,
    }


def newest_scores(problem: str) -> str | None:
    """Folder of the batch scores that were written last; None where there are none."""
    found = enter(problem).store.scores.glob(f"*/*/{MANIFEST}")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return str(newest.parent) if newest else None


def _inputs(room: Room, run: Run, source: str | None) -> list[Path]:
    """The files to score, by name; several of one name would overwrite each other."""
    place = Path(source) if source else room.store.worklist
    if place.is_file():
        return [place]
    by = parse_time(run.as_of).timestamp()
    found = sorted(
        path
        for path in (place.iterdir() if place.is_dir() else ())
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        # In whole seconds, as the as-of time is.
        and int(path.stat().st_mtime) <= by
    )
    if not found:
        raise NotStored(
            f"There is no CSV or Parquet file in {place} that had arrived by {run.as_of}.",
            "Put files to score there, or name a source.",
        )
    return found


def _output_names(paths: Sequence[Path]) -> list[str]:
    """Names of the scores; two inputs of one stem would write over each other's."""
    alike = len({path.stem for path in paths}) < len(paths)
    return [f"{path.name if alike else path.stem}.scores{path.suffix.lower()}" for path in paths]


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
    source: Path,
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
