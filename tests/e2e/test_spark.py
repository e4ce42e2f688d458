"""Batch scoring on a real Spark cluster gives what one machine gives, whatever happens to it."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bc_pipeline import steps
from bc_pipeline.artifacts.files import sha256_file
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_bundle import MANIFEST
from bc_pipeline.artifacts.signed_document import signature_name
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import FileRefused
from bc_pipeline.problems import get_problem
from bc_pipeline.scoring.batch_plan import BatchJob
from bc_pipeline.scoring.repeated_ids import REPEATED_ID
from bc_pipeline.scoring.spark_submit import SparkResult, run_driver
from bc_pipeline.settings import Settings
from bc_pipeline.steps import Run
from bc_pipeline.tables.locations import find_tables
from bc_pipeline.workspace import origin_of
from tests.contract.hostile_csv import FILES
from tests.e2e.spark_cluster import PYTHON, SparkCluster, spark_cluster, why_not
from tests.e2e.volume import make_releases

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not())]

BOUND = 1e-12
NAMES = get_problem("wdbc").schema.names
# One defect of each kind: one refuses a file, one rejects a row, one is only noted.
NASTY = {
    "a name twice",
    "header alone",
    "semicolons",
    "quote inside a field",
    "Latin-1 after UTF-8",
    "Parquet magic",
    "ragged rows",
    "blank line between rows",
    "all kinds of line ends",
    "thousands separator",
    "1e400",
    "parts that do not fit",
    "formula for an id",
    "empty id",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume with a champion."""
    path = tmp_path_factory.mktemp("spark") / "home"
    make_releases(path, 1)
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    with spark_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(autouse=True)
def settings_of_spark(home: Path, cluster: SparkCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BC_HOME", str(home))
    monkeypatch.setenv("BC_SPARK_MASTER", cluster.master)
    monkeypatch.setenv("BC_SPARK_PYTHON", str(PYTHON))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")


def rows_of(count: int, seed: int = 1) -> np.ndarray:
    reference = get_problem("wdbc").load_reference().values
    return reference[np.random.default_rng(seed).integers(0, len(reference), count)]


def write_csv(path: Path, values: np.ndarray, *, spoilt: int = 0, ids: bool = True) -> Path:
    """Rows with ids; each `spoilt`-th one has a word for a number, a blank line before it."""
    lines = [",".join(("id", *NAMES) if ids else NAMES)]
    for row, numbers in enumerate(values.tolist()):
        cells = [*([f"p{row}"] if ids else []), *map(repr, numbers)]
        if spoilt and row % spoilt == 0:
            lines.append("")
            cells[-1] = "much"
        lines.append(",".join(cells))
    path.write_text("\r\n".join(lines))
    return path


def rename(path: Path, names: dict[int, str]) -> None:
    """Give rows of `write_csv` other ids."""
    new = {f"p{row}": name for row, name in names.items()}
    lines = path.read_text().splitlines()
    cells = (line.partition(",") for line in lines)
    path.write_text("\n".join(new.get(name, name) + comma + rest for name, comma, rest in cells))


def write_parquet(path: Path, values: np.ndarray, names: list[str]) -> Path:
    parquet.write_table(pa.table({"id": names} | dict(zip(NAMES, values.T, strict=True))), path)
    return path


def run(day: int) -> Run:
    return Run("wdbc", "r", "2035-01-01T00:00:00Z", interval_start=f"2030-01-{day:02d}T00:00:00Z")


def batch(source: Path | str, engine: str, day: int) -> dict[str, Any]:
    """The manifest of a batch, whether files of it were refused or not."""
    with contextlib.suppress(FileRefused):
        steps.batch_score(Settings(), run(day), str(source), engine)
    (found,) = Store(Path(os.environ["BC_HOME"]), "wdbc").scores.glob(f"203001{day:02d}*/*")
    manifest: dict[str, Any] = json.loads((found / MANIFEST).read_text())
    return manifest | {"folder": found}


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a file, or of a folder's parts in order."""
    parts = sorted(path.iterdir()) if path.is_dir() else [path]
    rows: list[dict[str, Any]] = []
    for part in parts:
        if part.suffix == ".parquet":
            rows += parquet.read_table(part).to_pylist()
        else:
            with part.open(newline="") as stream:
                rows += csv.DictReader(stream)
    return rows


def assert_alike(here: dict[str, Any], there: dict[str, Any]) -> None:
    """The batch of one machine and that of Spark say the same of every row."""
    assert there["inputs"] == here["inputs"]
    events = [
        {name: why.split(" See ")[0] for name, why in batch["refused"].items()}
        for batch in (here, there)
    ]
    assert events[0] == events[1]
    for name in (
        "version",
        "manifest_sha256",
        "read",
        "scored",
        "rejected",
        "outside_training_range",
    ):
        assert there[name] == here[name], name
    assert len(there["reports"]) == len(here["reports"])
    for ours, theirs in zip(here["reports"], there["reports"], strict=True):
        for name in (
            "source",
            "source_sha256",
            "dialect",
            "read",
            "scored",
            "positive",
            "outside_training_range",
            "outside_by_feature",
        ):
            assert theirs[name] == ours[name], (name, ours["source"])
        assert_same_scores(here["folder"] / ours["output"], there["folder"] / theirs["output"])
        assert bool(ours["rejected_file"]) == bool(theirs["rejected_file"])
        if ours["rejected_file"]:
            expected = read(here["folder"] / ours["rejected_file"])
            assert read(there["folder"] / theirs["rejected_file"]) == expected


def assert_same_scores(here: Path, there: Path) -> None:
    expected, found = read(here), read(there)
    exact = ("id", "prediction", "label", "model_version", "outside_training_range")
    assert [[row[name] for name in exact] for row in found] == [
        [row[name] for name in exact] for row in expected
    ]
    for name in ("probability", "probability_malignant"):
        apart = [abs(float(a[name]) - float(b[name])) for a, b in zip(found, expected, strict=True)]
        assert max(apart) <= BOUND


def snapshot_of(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, sha256_file(path))
        for path in folder.rglob("*")
        if path.is_file()
    }


def job(home: Path, master: str, source: Path, day: int, **changes: Any) -> BatchJob:
    pointer = read_registry(Store(home, "wdbc")).production
    assert pointer is not None
    known = {
        "problem": "wdbc",
        "version": pointer.version,
        "manifest_sha256": pointer.manifest_sha256,
        "master": master,
        "inputs": tuple(found.location for found in find_tables(str(source))),
        "root": str(home / "scores" / "wdbc"),
        "interval_start": run(day).interval_start,
        "as_of": run(day).as_of,
        "origin": origin_of(run(day)),
    }
    return BatchJob(**(known | changes))


def test_a_folder_of_nasty_files_comes_out_as_on_one_machine(tmp_path: Path) -> None:
    for hostile in FILES:
        if hostile.name in NASTY:
            (tmp_path / f"{hostile.name}.csv").write_bytes(hostile.make())
    write_csv(tmp_path / "sound.csv", rows_of(500))
    here, there = batch(tmp_path, "local", 1), batch(tmp_path, "spark", 2)
    assert_alike(here, there)
    # The names of the corpus are all known: none is left out by a slip of the pen.
    assert len(there["inputs"]) == len(NASTY) + 1
    assert there["reports"]
    assert there["rejected"]

    before = snapshot_of(there["folder"].parents[1])
    assert batch(tmp_path, "spark", 2) == there
    assert snapshot_of(there["folder"].parents[1]) == before


def test_rows_of_repeated_ids_are_rejected_as_on_one_machine(
    tmp_path: Path, home: Path, cluster: SparkCluster
) -> None:
    """Also where the rows of an id lie in parts of their own, or one of them is defective."""
    source = tmp_path / "in"
    source.mkdir()
    # p0 is the first and the last row; p997 is defective, and sound in another part.
    far = {4_000: "p0", 3_999: "p997", 2_500: "p2499", 1_200: "p3000"}
    rename(write_csv(source / "far.csv", rows_of(4_001), spoilt=997), far)
    # All ids but one twice; one id alone; every other row without an id.
    rename(write_csv(source / "all.csv", rows_of(2_001)), {n: f"p{n // 2}" for n in range(2_000)})
    rename(write_csv(source / "one.csv", rows_of(5)), dict.fromkeys(range(5), "p"))
    empty = dict.fromkeys(range(1, 2_000, 2), "") | {1_998: "p0"}
    rename(write_csv(source / "empty.csv", rows_of(2_000)), empty)
    write_parquet(source / "ids.parquet", rows_of(300), [f"p{max(n, 3)}" for n in range(300)])
    # The same ids in two files are not repeated.
    write_csv(source / "sound.csv", rows_of(50))
    here = batch(source, "local", 21)
    answer = run_driver(PYTHON, job(home, cluster.master, source, 22, part_bytes=1))
    assert answer.error is None
    folder = Path(answer.output)
    there = json.loads((folder / MANIFEST).read_text()) | {"folder": folder}

    assert_alike(here, there)
    assert list(there["refused"]) == ["one.csv"]
    assert "5 x id: stands for several rows of the file" in there["refused"]["one.csv"]
    none_scored = read(folder / "one.scores.rejected")
    assert [row["line"] for row in none_scored] == ["2", "3", "4", "5", "6"]
    assert none_scored == read(here["folder"] / "one.scores.rejected.csv")
    reports = {report["source"]: report for report in there["reports"]}
    assert len(reports["far.csv"]["parts"]) > 3
    events = [
        (int(row["line"]), row["id"])
        for row in read(folder / reports["far.csv"]["rejected_file"])
        if row["reason"] == REPEATED_ID
    ]
    assert [name for _, name in events] == (
        ["p0", "p997", "p3000", "p2499", "p2499", "p3000", "p997", "p0"]
    )
    assert events[0][0] < 5 < 4_000 < events[-1][0]
    rejected = {name: report["rejected"] for name, report in reports.items()}
    assert rejected["all.csv"] == 2_000
    assert (rejected["ids.parquet"], rejected["empty.csv"]) == (4, 1_002)
    assert rejected["sound.csv"] == 0
    # Output that was written before the repeats were known is removed.
    named = {
        part["name"]
        for report in there["reports"]
        for part in (*report["parts"], *report["rejected_parts"])
    }
    kept = {name for name in snapshot_of(folder) if name.startswith("one.scores.rejected/")}
    assert {name for name in snapshot_of(folder) if "/" in name} == named | kept


def test_a_pattern_of_parquet_files_at_a_url_comes_out_at_a_url(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        folder = tmp_path / "in" / f"site={number}"
        folder.mkdir(parents=True)
        values = rows_of(300, number)
        values[7 * number, 0] = np.nan
        write_parquet(folder / "part-0.parquet", values, [f"p{row}" for row in range(300)])
    pattern = str(tmp_path / "in" / "*" / "part-?.parquet")
    here = batch(pattern, "local", 3)
    monkeypatch.setenv("BC_SPARK_SCORES", f"file://{tmp_path}/out")
    result = steps.batch_score(Settings(), run(4), f"file://{pattern}", "auto")
    folder = Path(result["output"].removeprefix("file://"))
    there = json.loads((folder / MANIFEST).read_text()) | {"folder": folder}
    assert_alike(here, there)
    assert sorted(there["inputs"]) == ["site=0/part-0.parquet", "site=1/part-0.parquet"]
    assert there["rejected"] == 2
    written = set(snapshot_of(folder))
    named = {
        part["name"]
        for report in there["reports"]
        for part in (*report["parts"], *report["rejected_parts"])
    }
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    assert written == named | {MANIFEST, signature_name(MANIFEST, digest)}


TAMPERED = """
import sys
from dataclasses import replace
import msgspec
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.signed_bundle import MODEL
from bc_pipeline.artifacts.versions import open_stored
from bc_pipeline.errors import PipelineError
from bc_pipeline.scoring.model_package import pack_model
from bc_pipeline.settings import load_settings
from bc_pipeline.scoring.spark_driver import score
from bc_pipeline.workspace import origin_of
from bc_pipeline.scoring.batch_plan import BatchJob

job = msgspec.json.decode(sys.stdin.buffer.read(), type=BatchJob)
settings = load_settings()
files = open_stored(Store(settings.home, job.problem), job.version, settings.verify_key)
sound = pack_model(files, settings.verify_key)
graph = bytearray(sound.files[MODEL])
graph[len(graph) // 2] ^= 1
changed = {
    "model": replace(sound, files=sound.files | {MODEL: bytes(graph)}),
    "code": replace(sound, code="0.1.0+00000000"),
}
for package in changed.values():
    try:
        score(settings, job, package)
    except PipelineError as error:
        print(error.code, error)
"""


def test_executors_refuse_a_tampered_model_and_other_code(
    tmp_path: Path, home: Path, cluster: SparkCluster
) -> None:
    write_csv(tmp_path / "sound.csv", rows_of(50))
    done = subprocess.run(
        [PYTHON, "-P", "-c", TAMPERED],
        input=msgspec.json.encode(job(home, cluster.master, tmp_path, 5)),
        capture_output=True,
        timeout=200,
        env=os.environ | {"PYSPARK_PYTHON": str(PYTHON)},
        check=True,
    )
    printed = done.stdout.decode().splitlines()
    assert printed[-2].startswith("artifact-corrupt model.onnx of version v0 is not the file that")
    assert printed[-1].startswith("config The executor runs bc-pipeline ")
    assert not list((home / "scores").rglob("20300105*"))


def test_a_killed_worker_changes_nothing_in_the_result(
    tmp_path: Path, home: Path, cluster: SparkCluster
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_csv(source / "large.csv", rows_of(30_000), spoilt=997)
    write_csv(source / "unnamed.csv", rows_of(3_000), ids=False)
    started = job(home, cluster.master, source, 7, part_bytes=1 << 18)
    answers: list[SparkResult] = []
    driver = threading.Thread(target=lambda: answers.append(run_driver(PYTHON, started)))
    driver.start()
    interval = home / "scores" / "wdbc" / "20300107T000000Z"
    while driver.is_alive() and not list(interval.glob(".*/*/part-*")):
        time.sleep(0.01)
    victim = cluster.workers[0]
    executor = cluster.executor_of(victim)
    assert executor is not None
    os.kill(executor, signal.SIGKILL)
    victim.kill()
    seen = len(list(interval.glob(".*/*/part-*")))
    driver.join(250)
    (answer,) = answers
    assert answer.error is None
    there = json.loads((interval / Path(answer.output).name / MANIFEST).read_text())
    parts = sum(len(report["parts"]) for report in there["reports"])
    # It was killed in the middle: some parts stood there, and some did not.
    assert 0 < seen < parts
    assert parts > 20
    assert_alike(batch(source, "local", 6), there | {"folder": Path(answer.output)})
