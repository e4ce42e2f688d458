from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import ArtifactCorrupt, ConfigError, SignatureInvalid, TransientError
from bc_pipeline.scoring.batch_plan import BatchJob, choose_engine, output_stems
from bc_pipeline.scoring.output_folder import commit, read_manifest, stage
from bc_pipeline.scoring.scores_manifest import ScoresManifest
from bc_pipeline.scoring.spark_submit import run_driver
from bc_pipeline.settings import Settings
from bc_pipeline.tables.locations import FileLocation, ListedFile
from bc_pipeline.workspace import Origin

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
def test_the_engine_follows_the_request_the_size_and_the_settings(
    engine: str, url: str, size: int, master: str, chosen: str
) -> None:
    settings = Settings(spark_master=master, spark_above_mb=100)
    files = [
        ListedFile(FileLocation(url, "a.csv"), size - 1, 0.0),
        ListedFile(FileLocation(url, "b.csv"), 1, 0.0),
    ]
    assert choose_engine(engine, files, settings) == chosen


@pytest.mark.parametrize(
    ("engine", "url", "master", "why"),
    [
        ("spark", FILE, "", "no cluster is known"),
        ("auto", URL, "", "which only Spark reads, and no cluster is known"),
        ("local", URL, MASTER, "the engine local reads paths"),
        ("flink", FILE, MASTER, "'flink' is no engine"),
    ],
)
def test_an_engine_that_is_not_available_is_refused(
    engine: str, url: str, master: str, why: str
) -> None:
    files = [ListedFile(FileLocation(url, "a.csv"), 1, 0.0)]
    with pytest.raises(ConfigError, match=why):
        choose_engine(engine, files, Settings(spark_master=master))


def test_outputs_have_the_stems_of_their_inputs_unless_two_are_equal() -> None:
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


def test_scores_appear_complete_and_without_unlisted_files(
    store: Store, url: str, tmp_path: Path
) -> None:
    assert read_manifest(store, url) is None
    with stage(url) as staged:
        part = write(staged, "a.scores/part-0.csv", b"1234")
        write(staged, "a.scores/part-0-of-a-lost-executor.csv", b"12")
        write(staged, "refused.scores/.half", b"1")
        kept = write(staged, "refused.scores.rejected/part-0.csv", b"1")["name"]
        written = manifest(part)
        assert read_manifest(store, url) is None
        commit(store, url, staged, written, keep=[kept])
    assert read_manifest(store, url) == written
    if url.startswith("/"):
        assert not (tmp_path / "scores" / "batch" / "refused.scores").exists()
    scores = tmp_path / "scores"
    files = {path.relative_to(scores).as_posix() for path in scores.rglob("*") if path.is_file()}
    (signature,) = scores.glob("batch/manifest.json.*.sig")
    assert files == {
        "batch/a.scores/part-0.csv",
        "batch/refused.scores.rejected/part-0.csv",
        "batch/manifest.json",
        f"batch/{signature.name}",
    }


def test_a_changed_manifest_of_scores_is_refused(store: Store, url: str) -> None:
    with stage(url) as staged:
        commit(store, url, staged, manifest(write(staged, "a.scores/part-0.csv", b"1234")))
    path = Path(url.removeprefix("file://")) / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"part-0", b"part-1"))
    with pytest.raises(SignatureInvalid, match=r"manifest\.json"):
        read_manifest(store, url)


def test_a_missing_part_prevents_the_commit(store: Store, url: str, tmp_path: Path) -> None:
    with stage(url) as staged:
        part = write(staged, "a.scores/part-0.csv", b"1234")
        other = {"name": "a.scores/part-1.csv", "sha256": "s", "size": 3}
        with pytest.raises(ConfigError, match="executors wrote, 1 of 2 is missing in"):
            commit(store, url, staged, manifest(part, other))
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_part_that_was_damaged_later_is_noticed(store: Store, url: str) -> None:
    with stage(url) as staged:
        part = write(staged, "a.scores/part-0.csv", b"1234")
        rejects = write(staged, "a.scores.rejected/part-0.csv", b"12")
        commit(store, url, staged, manifest(part, rejected=(rejects,)))
    write(url, "a.scores.rejected/part-0.csv", b"1")
    with pytest.raises(ArtifactCorrupt, match="1 of 2 is missing or damaged"):
        read_manifest(store, url)


JOB = BatchJob(
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


def test_a_driver_that_dies_is_a_transient_error(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\ncat > /dev/null\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(TransientError, match="ended with code 3 and no answer"):
        run_driver(python, JOB)


def test_a_missing_spark_environment_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"make \.venv/spark/ready"):
        run_driver(tmp_path / "python", JOB)
