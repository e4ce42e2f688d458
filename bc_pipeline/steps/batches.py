"""What a batch of scores is: its inputs, its folder's name and its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.artifacts.files import sha256_bytes
from bc_pipeline.clock import parse_time
from bc_pipeline.errors import ConfigError, NotStored
from bc_pipeline.settings import Settings
from bc_pipeline.steps.run import Origin, Room, Run
from bc_pipeline.tables import Found, find_tables, is_url

MANIFEST = "manifest.json"
Engine = Literal["auto", "local", "spark"]


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
        For each input file, what came of it. Of one that Spark scored, ``parts`` and
        ``rejected_parts`` list the files of the output, each with its digest and size.
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


def find_inputs(room: Room, run: Run, source: str | None) -> list[Found]:
    """The files to score: one that is named, or those that had arrived by the as-of time.

    Raises
    ------
    NotStored
    """
    place = source or str(room.store.worklist)
    if not is_url(place):
        place = str(Path(place).absolute())
    found = find_tables(place)
    by = parse_time(run.as_of).timestamp()
    if [each.place.url for each in found] != [place]:
        # In whole seconds, as the as-of time is.
        found = [each for each in found if int(each.modified) <= by]
    if not found:
        raise NotStored(
            f"There is no CSV or Parquet file in {place} that had arrived by {run.as_of}.",
            "Put files to score there, or name a source.",
        )
    return found


def choose_engine(
    engine: str, found: Sequence[Found], settings: Settings
) -> Literal["local", "spark"]:
    """Where to score: what ``auto`` means for these files.

    One machine reads what it has as files; a cluster pays where there is much to read, and
    only where there is one.

    Raises
    ------
    ConfigError
        Where that is not possible here.
    """
    far = [each.place.url for each in found if is_url(each.place.url)]
    size = sum(each.size for each in found)
    if engine not in ("auto", "local", "spark"):
        raise ConfigError(
            f"{engine!r} is no engine.", "Name auto, local or spark.", setting="engine"
        )
    if engine == "auto":
        large = bool(settings.spark_master) and size >= settings.spark_above_mb << 20
        engine = "spark" if far or large else "local"
    if engine == "spark" and not settings.spark_master:
        reason = f"{far[0]} is a URL, which only Spark reads" if far else "The engine is Spark"
        raise ConfigError(
            f"{reason}, and no cluster is known.",
            "Set BC_SPARK_MASTER, or name a path and the engine local.",
            setting="BC_SPARK_MASTER",
        )
    if engine == "local":
        if far:
            raise ConfigError(
                f"{far[0]} is a URL; the engine local reads paths.",
                "Name a path, or the engine spark.",
                setting="engine",
            )
        return "local"
    return "spark"


def interval_of(interval_start: str | None, as_of: str) -> str:
    """Name of the folder of all scores of a data interval."""
    moment: datetime = parse_time(interval_start or as_of)
    return f"{moment:%Y%m%dT%H%M%SZ}"


def batch_name(version: str, inputs: Mapping[str, str]) -> str:
    """Name of the folder of a batch: the champion, and a digest of the inputs."""
    digest = sha256_bytes(msgspec.json.encode(inputs, order="deterministic"))[:8]
    return f"{version}-{digest}"


def output_stems(names: Sequence[str]) -> list[str]:
    """Stems of the scores' names; two inputs of one stem would write over each other's."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    return list(names) if len(set(stems)) < len(names) else stems
