from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.errors import ArtifactCorrupt, ConfigError, TransientError
from bc_pipeline.settings import Settings
from bc_pipeline.steps.batches import ScoresManifest, choose_engine, output_stems
from bc_pipeline.steps.run import Origin
from bc_pipeline.steps.score_folders import open_folder
from bc_pipeline.steps.spark_job import SparkJob, run_driver
from bc_pipeline.tables import Found, Place

MASTER = "spark://127.0.0.1:7077"
FILE, URL = "/data/a.csv", "s3://bucket/a.csv"
MEBI = 1 << 20


@pytest.mark.parametrize(
    ("engine", "url", "size", "master", "chosen"),
    [
        ("auto", FILE, 99 * MEBI, MASTER, "local"),
        ("auto", FILE, 100 * MEBI, MASTER, "spark"),
        ("auto", FILE, 100 * MEBI, "", "local"),
        ("auto", URL, 1, MASTER, "spark"),
        ("local", FILE, 100 * MEBI, MASTER, "local"),
        ("spark", FILE, 1, MASTER, "spark"),
    ],
)
def test_the_engine_goes_by_what_is_asked_and_what_is_there(
    engine: str, url: str, size: int, master: str, chosen: str
) -> None:
    settings = Settings(spark_master=master, spark_above_mb=100)
    found = [Found(Place(url, "a.csv"), size - 1, 0.0), Found(Place(url, "b.csv"), 1, 0.0)]
    assert choose_engine(engine, found, settings) == chosen


@pytest.mark.parametrize(
    ("engine", "url", "master", "why"),
    [
        ("spark", FILE, "", "no cluster is known"),
        ("auto", URL, "", "which only Spark reads, and no cluster is known"),
        ("local", URL, MASTER, "the engine local reads paths"),
        ("flink", FILE, MASTER, "'flink' is no engine"),
    ],
)
def test_an_engine_that_cannot_be_had_is_refused(
    engine: str, url: str, master: str, why: str
) -> None:
    found = [Found(Place(url, "a.csv"), 1, 0.0)]
    with pytest.raises(ConfigError, match=why):
        choose_engine(engine, found, Settings(spark_master=master))


def test_outputs_have_the_stems_of_their_inputs_unless_two_are_alike() -> None:
    assert output_stems(["x/a.csv", "y/a.csv"]) == ["x/a", "y/a"]
    assert output_stems(["a.csv", "a.parquet"]) == ["a.csv", "a.parquet"]


def manifest(*parts: dict[str, Any], rejected: tuple[dict[str, Any], ...] = ()) -> ScoresManifest:
    return ScoresManifest(
        problem="wdbc",
        version="v0",
        manifest_sha256="m",
        interval_start=None,
        as_of="2030-01-01T00:00:00Z",
        inputs={"a.csv": "d"},
        refused={},
        read=1,
        scored=1,
        rejected=0,
        validations=(),
        reports=({"source": "a.csv", "parts": [*parts], "rejected_parts": [*rejected]},),
    )


@pytest.fixture(params=["", "file://"], ids=["disk", "store"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}{tmp_path}/scores/batch"


def write(folder: str, name: str, data: bytes) -> dict[str, Any]:
    path = Path(folder.removeprefix("file://")) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"name": name, "sha256": "s", "size": len(data)}


def test_scores_appear_as_a_whole_without_what_nobody_told_of(url: str, tmp_path: Path) -> None:
    folder = open_folder(url)
    assert folder.stored() is None
    with folder.staged() as staged:
        part = write(staged.url, "a.scores/part-0.csv", b"1234")
        write(staged.url, "a.scores/part-0-of-a-lost-executor.csv", b"12")
        write(staged.url, "refused.scores/.half", b"1")
        told = manifest(part)
        assert folder.stored() is None
        staged.commit(told)
    assert folder.stored() == told
    files = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert files == {"scores/batch/a.scores/part-0.csv", "scores/batch/manifest.json"}


def test_a_part_that_is_not_there_is_no_score(url: str, tmp_path: Path) -> None:
    folder = open_folder(url)
    with folder.staged() as staged:
        part = write(staged.url, "a.scores/part-0.csv", b"1234")
        other = {"name": "a.scores/part-1.csv", "sha256": "s", "size": 3}
        with pytest.raises(ConfigError, match="1 of 2 parts that executors wrote are not in"):
            staged.commit(manifest(part, other))
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_part_that_was_damaged_later_is_noticed(url: str) -> None:
    folder = open_folder(url)
    with folder.staged() as staged:
        part = write(staged.url, "a.scores/part-0.csv", b"1234")
        aside = write(staged.url, "a.scores.rejected/part-0.csv", b"12")
        staged.commit(manifest(part, rejected=(aside,)))
    write(url, "a.scores.rejected/part-0.csv", b"1")
    with pytest.raises(ArtifactCorrupt, match="1 of 2 parts of"):
        folder.stored()


JOB = SparkJob(
    problem="wdbc",
    version="v0",
    manifest_sha256="m",
    master=MASTER,
    inputs=(),
    root="/scores",
    interval_start=None,
    as_of="2030-01-01T00:00:00Z",
    origin=Origin("r", "0.1.0+0", None),
)


def test_a_driver_that_dies_is_worth_another_try(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\ncat > /dev/null\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(TransientError, match="ended with code 3 and no answer"):
        run_driver(python, JOB)


def test_a_missing_environment_is_said_with_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"make \.venv/spark/ready"):
        run_driver(tmp_path / "python", JOB)
