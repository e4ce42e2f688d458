"""The plan of a batch: its input files, the engine that scores them, and the output's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import sha256_bytes
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.clock import file_time_defect, parse_time
from bc_pipeline.errors import ConfigError, NotStored, TransientError
from bc_pipeline.settings import Settings
from bc_pipeline.tables.file_names import name_defect, printable_name
from bc_pipeline.tables.input_file import irregular, require_file
from bc_pipeline.tables.locations import FileLocation, ListedFile, find_tables, is_url
from bc_pipeline.tables.parts import PART_BYTES
from bc_pipeline.workspace import Origin, Run, Workspace, origin_of


@dataclass(frozen=True)
class Inputs:
    """Files to score.

    Attributes
    ----------
    files : list of ListedFile
    refused : dict of str to str
        Name of each file that is not scored because of its name or its time, and the reason.
    """

    files: list[ListedFile]
    refused: dict[str, str]


def find_inputs(workspace: Workspace, run: Run, source: str | None) -> Inputs:
    """List the files to score: the named source, or the worklist as of the run's time.

    Raises
    ------
    NotStored
    """
    location = source or str(workspace.store.worklist)
    if not is_url(location):
        location = str(Path(location).absolute())
        if not _is_folder(location):
            require_file(Path(location), "source")
    files = find_tables(location)
    names_one_file = [file.location.url for file in files] == [location]
    refused = {}
    for file in files:
        name = file.location.name
        defect = (
            name_defect(name)
            or _file_defect(file.location.url)
            or (None if names_one_file else file_time_defect(file.modified))
        )
        if defect:
            refused[printable_name(name)] = defect
    files = [file for file in files if printable_name(file.location.name) not in refused]
    if not names_one_file:
        # The as-of time is in whole seconds.
        as_of = parse_time(run.as_of).timestamp()
        files = [file for file in files if int(file.modified) <= as_of]
    if not files and not refused:
        raise NotStored(
            f"There is no CSV or Parquet file in {location} that had arrived by {run.as_of}.",
            "Put files to score there, or name a source.",
        )
    return Inputs(files, refused)


def _file_defect(url: str) -> str | None:
    """Why a path cannot be opened as a file: an endless pipe would be read for ever."""
    reason = "" if is_url(url) else irregular(Path(url))
    return f"{reason}." if reason else None


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:
        # Such as a name that is too long for the file system.
        return False


def choose_engine(
    engine: str, files: Sequence[ListedFile], settings: Settings
) -> Literal["local", "spark"]:
    """Decide where to score: ``auto`` takes a configured cluster for URLs and large batches.

    Raises
    ------
    ConfigError
        Where the engine is unknown, not configured, or cannot read the files.
    """
    if engine not in ("auto", "local", "spark"):
        raise ConfigError(
            f"{engine!r} is no engine.", "Name auto, local or spark.", setting="engine"
        )
    urls = [file.location.url for file in files if is_url(file.location.url)]
    if engine == "auto":
        size = sum(file.size for file in files)
        large = bool(settings.spark_master) and size >= settings.spark_above_mb << 20
        engine = "spark" if urls or large else "local"
    if engine == "spark":
        if not settings.spark_master:
            reason = (
                f"{urls[0]} is a URL, which only Spark reads" if urls else "The engine is Spark"
            )
            raise ConfigError(
                f"{reason}, and no cluster is known.",
                "Set BC_SPARK_MASTER, or name a path and the engine local.",
                setting="BC_SPARK_MASTER",
            )
        return "spark"
    if urls:
        raise ConfigError(
            f"{urls[0]} is a URL; the engine local reads paths.",
            "Name a path, or the engine spark.",
            setting="engine",
        )
    return "local"


class BatchJob(Document, frozen=True, kw_only=True):
    """Files to score; the champion is named with its digest, so that it cannot change.

    Attributes
    ----------
    inputs : tuple of FileLocation
    root : str
        Path or URL of the problem's scores.
    master : str
        Of the Spark cluster.
    part_bytes : int
        About how much of a CSV file one task of Spark reads.
    refused : dict of str to str
        Files of the source that are not scored, with the reasons.
    """

    problem: str
    version: str
    manifest_sha256: str
    inputs: tuple[FileLocation, ...]
    root: str
    interval_start: str | None
    as_of: str
    origin: Origin
    master: str = ""
    part_bytes: int = PART_BYTES
    refused: dict[str, str] = msgspec.field(default_factory=dict)

    def output(self, digests: Mapping[str, str]) -> str:
        """Path or URL of the scores: named by interval, version and a digest of the inputs."""
        start: datetime = parse_time(self.interval_start or self.as_of)
        digest = sha256_bytes(msgspec.json.encode(digests, order="deterministic"))[:8]
        return f"{self.root}/{start:%Y%m%dT%H%M%SZ}/{self.version}-{digest}"


def plan_batch(
    workspace: Workspace,
    run: Run,
    champion: VersionFiles,
    inputs: Inputs,
    engine: Literal["local", "spark"],
) -> BatchJob:
    """The job of scoring files with the champion; `engine` as of `choose_engine`."""
    settings = workspace.settings
    scores = settings.spark_scores.rstrip("/") if engine == "spark" else ""
    return BatchJob(
        problem=run.problem,
        version=champion.manifest.version,
        manifest_sha256=champion.manifest_sha256,
        inputs=tuple(file.location for file in inputs.files),
        root=f"{scores or workspace.store.scores.parent}/{run.problem}",
        interval_start=run.interval_start,
        as_of=run.as_of,
        origin=origin_of(run),
        master=settings.spark_master,
        refused=inputs.refused,
    )


def output_stems(names: Sequence[str]) -> list[str]:
    """Stems of the output names: the inputs' own, unless two of them would be equal."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    return list(names) if len(set(stems)) < len(names) else stems


def source_changed(name: str) -> TransientError:
    """The error for a file that was written to while it was scored."""
    return TransientError(
        f"{name} changed while it was scored.",
        "Put a file there under a name that starts with a dot, and rename it when it is complete.",
    )
