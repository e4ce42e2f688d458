"""An executor verifies the model that it was sent, and rejects the rows of repeated ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.signed_bundle import MANIFEST, MODEL
from bc_pipeline.artifacts.versions import open_stored
from bc_pipeline.data.suite_counts import SuiteCounter
from bc_pipeline.data.suites import read_suite
from bc_pipeline.errors import ArtifactCorrupt, ConfigError, PipelineError, SignatureInvalid
from bc_pipeline.problems import get_problem
from bc_pipeline.scoring.executor_tasks import (
    FileTask,
    PartReport,
    PartTask,
    scan_file,
    score_part,
)
from bc_pipeline.scoring.model_package import ModelPackage, open_model_package, pack_model
from bc_pipeline.scoring.repeated_ids import REPEATED_ID
from bc_pipeline.settings import Settings
from bc_pipeline.tables.locations import FileLocation


@pytest.fixture
def sound(releases: Any, fitted: Any) -> ModelPackage:
    releases.publish("v0", fitted[0])
    key = releases.settings.verify_key
    return pack_model(open_stored(releases.store, "v0", key), key)


def flipped(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


def changed(sound: ModelPackage, name: str) -> ModelPackage:
    return replace(sound, files=sound.files | {name: flipped(sound.files[name])})


def test_a_sound_model_is_loaded_once(sound: ModelPackage) -> None:
    assert open_model_package(Settings(), sound).manifest.version == "v0"
    assert open_model_package(Settings(), sound) is open_model_package(Settings(), sound)


def test_a_model_that_was_changed_is_refused_though_a_sound_one_was_loaded(
    sound: ModelPackage,
) -> None:
    open_model_package(Settings(), sound)
    refused: dict[str, type[PipelineError]] = {MODEL: ArtifactCorrupt, MANIFEST: SignatureInvalid}
    for name, kind in refused.items():
        with pytest.raises(kind):
            open_model_package(Settings(), changed(sound, name))


def test_other_code_is_refused(sound: ModelPackage) -> None:
    with pytest.raises(ConfigError, match=r"the driver 0\.0\.0\+other"):
        open_model_package(Settings(), replace(sound, code="0.0.0+other"))


def test_an_executor_goes_by_its_own_key(
    sound: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.make_keys(tmp_path / "signing.pem", tmp_path / "verify.pem")
    monkeypatch.setenv("BC_VERIFY_KEY_FILE", str(tmp_path / "verify.pem"))
    monkeypatch.setattr("bc_pipeline.scoring.model_package._predictors", {})
    with pytest.raises(SignatureInvalid):
        open_model_package(Settings(), sound)


def test_a_file_out_of_reach_is_worth_another_try(sound: ModelPackage, tmp_path: Path) -> None:
    location = FileLocation(str(tmp_path / "gone.csv"), "gone.csv")
    result = scan_file(Settings(), FileTask(file=0, location=location, part_bytes=1), sound)
    assert result.failure is not None
    assert result.failure["code"] == "transient"


# Repeated ids ------------------------------------------------------------------------------

HASH = """
import numpy as np
from bc_pipeline.scoring.repeated_ids import hash_ids
from bc_pipeline.tables.blocks import Block
print(hash_ids(Block(np.arange(3), ["p\N{LATIN SMALL LETTER E WITH ACUTE}", None, "nan"],
                     np.empty((3, 0)), None)).tolist())
"""


def test_an_id_has_the_same_hash_in_every_process() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", HASH],
            capture_output=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    hashes = json.loads(told.pop())
    assert len(set(hashes)) == 2


def test_a_part_returns_its_ids_and_then_rejects_the_repeated_ones(
    sound: ModelPackage, tmp_path: Path, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    problem = get_problem("wdbc")
    values = reference[0][:4].copy()
    values[3, 0] = -1
    ids = ["p0", None, "p2", "p3"]
    source = tmp_path / "in.parquet"
    columns = dict(zip(problem.schema.names, values.T, strict=True))
    parquet.write_table(pa.table({"id": ids} | columns), source)
    location = FileLocation(str(source), source.name)
    scanned = scan_file(Settings(), FileTask(file=0, location=location, part_bytes=1), sound)
    assert scanned.scan is not None
    task = PartTask(
        file=0,
        part=0,
        location=location,
        span=scanned.scan.parts[0],
        columns=None,
        folder=str(tmp_path / "out"),
        stem="in",
        return_ids=True,
    )
    suite = read_suite(problem, "scoring", Settings().expectations_dir)

    def score(task: PartTask, repeated: np.ndarray | None = None) -> tuple[list[int], PartReport]:
        counter = partial(SuiteCounter, suite)
        *portions, report = score_part(Settings(), task, sound, counter, repeated)
        assert isinstance(report, PartReport)
        assert report.refused is report.failure is None
        return [int(each) for portion in portions for each in portion], report

    hashes, report = score(task)
    # An id of a defective row may be repeated too; a row without an id repeats none.
    assert len(set(hashes)) == 3
    assert report.report is not None
    assert (report.report.scored, report.report.rejected) == (2, 2)

    repeated = np.sort(hashes[1:])
    hashes, report = score(msgspec.structs.replace(task, return_ids=False), repeated)
    assert hashes == []
    assert report.report is not None
    assert (report.report.scored, report.report.rejected) == (1, 3)
    assert report.reasons[f"id: {REPEATED_ID}"] == 2
