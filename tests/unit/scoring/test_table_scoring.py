from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv as pa_csv
from pyarrow import parquet

from bc_pipeline.artifacts.files import sha256_file
from bc_pipeline.artifacts.manifest import DecisionRule
from bc_pipeline.artifacts.predictors import Predictor, make_session
from bc_pipeline.errors import (
    ConfigError,
    ExpectationsFailed,
    FileRefused,
    ModelError,
    RowsRejected,
    SchemaMismatch,
)
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import Feature, FeatureSchema, row_key
from bc_pipeline.scoring.repeated_ids import REPEATED_ID
from bc_pipeline.scoring.table_scoring import ScoreReport, score_file
from bc_pipeline.serving.request_parsing.fast_record import Bounds

COLUMNS = [
    "id",
    "prediction",
    "label",
    "probability",
    "probability_malignant",
    "model_version",
    "outside_training_range",
]
Reference = tuple[np.ndarray, np.ndarray]


def manifest_of(schema: FeatureSchema) -> Any:
    labels = get_problem("wdbc").labels
    rule = DecisionRule("v1", "fake", 0.3, labels)
    return SimpleNamespace(
        version="v1",
        feature_schema=schema,
        label_set=labels,
        decision_rule=rule,
        training_range=dict.fromkeys(schema.names, (-np.inf, np.inf)),
    )


@dataclass
class FakePredictor:
    """Malignant by radius alone, row by row."""

    schema: FeatureSchema
    answer: Callable[[np.ndarray], np.ndarray] = lambda values: 1 / (1 + np.exp(15 - values[:, 0]))
    manifest: Any = field(init=False)

    def __post_init__(self) -> None:
        self.manifest = manifest_of(self.schema)

    def positive(self, values: np.ndarray) -> np.ndarray:
        return self.answer(values)


@pytest.fixture
def values(reference: Reference) -> np.ndarray:
    return reference[0][:120]


@pytest.fixture
def predictor(wdbc: Problem) -> FakePredictor:
    return FakePredictor(wdbc.schema)


@pytest.fixture
def score(wdbc: Problem, predictor: FakePredictor) -> Callable[..., ScoreReport]:
    def run(source: Path, target: Path, **options: Any) -> ScoreReport:
        model = options.pop("predictor", predictor)
        return score_file(model, source, target, **options)

    return run


def write_csv(
    path: Path,
    names: Sequence[str],
    values: np.ndarray,
    ids: Sequence[str] | None = None,
    **changed: str,
) -> Path:
    """A CSV file; `changed` replaces whole lines, ``line_7="..."``."""
    rows = [",".join(repr(float(value)) for value in row) for row in values]
    lines = [",".join(names), *rows]
    if ids is not None:
        lines = [f"{name},{line}" for name, line in zip(("id", *ids), lines, strict=True)]
    for key, line in changed.items():
        lines[int(key.removeprefix("line_")) - 1] = line
    path.write_text("\n".join(lines))
    return path


def ids_of(values: np.ndarray) -> list[str]:
    return [f"p{row}" for row in range(len(values))]


def rejects_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        row
        | {
            "prediction": int(row["prediction"]),
            "probability": float(row["probability"]),
            "probability_malignant": float(row["probability_malignant"]),
        }
        for row in rows
    ]


def folder(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


@pytest.mark.parametrize("layout", ["csv", "parquet"])
@pytest.mark.parametrize("block_bytes", [1, 5000, 1 << 21])
def test_every_row_has_its_score_whatever_the_block(
    layout: str,
    block_bytes: int,
    wdbc: Problem,
    values: np.ndarray,
    predictor: FakePredictor,
    score: Callable[..., ScoreReport],
    tmp_path: Path,
) -> None:
    source, target = tmp_path / f"in.{layout}", tmp_path / "out" / f"scores.{layout}"
    ids = ids_of(values)
    if layout == "csv":
        write_csv(source, wdbc.schema.names, values, ids)
    else:
        columns = dict(zip(wdbc.schema.names, values.T, strict=True))
        parquet.write_table(pa.table({"id": ids} | columns), source)

    report = score(source, target, block_bytes=block_bytes)

    rows = rows_of(target)
    expected = predictor.positive(values)
    called = expected > 0.3
    assert list(rows[0]) == COLUMNS
    assert [row["id"] for row in rows] == ids
    assert [row["probability_malignant"] for row in rows] == expected.tolist()
    assert [row["prediction"] for row in rows] == np.where(called, 0, 1).tolist()
    assert [row["label"] for row in rows] == [
        ("benign", "malignant")[call] for call in called.tolist()
    ]
    assert [row["probability"] for row in rows] == np.where(called, expected, 1 - expected).tolist()
    assert {row["model_version"] for row in rows} == {"v1"}
    assert report == ScoreReport(
        read=120,
        scored=120,
        rejected=0,
        positive=int(called.sum()),
        version="v1",
        dialect="canonical" if layout == "csv" else "parquet",
        source=source.name,
        source_sha256=sha256_file(source),
        output=target.name,
        output_sha256=sha256_file(target),
        rejected_file=None,
    )
    assert list(folder(target.parent)) == [target.name]
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_real_model_agrees_with_one_row_at_a_time(
    wdbc: Problem,
    reference: Reference,
    fitted: Sequence[Any],
    score: Callable[..., ScoreReport],
    tmp_path: Path,
) -> None:
    values = reference[0]
    model = Predictor(manifest_of(wdbc.schema), make_session(fitted[0].graph))
    source = write_csv(tmp_path / "in.csv", wdbc.schema.names, values, ids_of(values))

    score(source, tmp_path / "out.csv", predictor=model, block_bytes=20_000)

    batch = [row["probability_malignant"] for row in rows_of(tmp_path / "out.csv")]
    single = np.concatenate([model.positive(row[None]) for row in values])
    assert np.abs(batch - single).max() <= 1e-12


def test_the_same_file_gives_the_same_bytes(
    wdbc: Problem, values: np.ndarray, score: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", wdbc.schema.names, values, line_9="x")

    first = score(source, tmp_path / "a.csv", block_bytes=3000)
    second = score(source, tmp_path / "b.csv")

    assert first.output_sha256 == second.output_sha256
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.rejected.csv").read_bytes() == (tmp_path / "b.rejected.csv").read_bytes()


def test_a_row_without_id_gets_the_key_of_its_values(
    wdbc: Problem, values: np.ndarray, score: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", wdbc.schema.names, values)

    score(source, tmp_path / "out.csv")

    assert [row["id"] for row in rows_of(tmp_path / "out.csv")] == [
        row_key(row) for row in values.tolist()
    ]


def test_a_label_column_is_ignored(
    wdbc: Problem, values: np.ndarray, score: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    plain = write_csv(tmp_path / "plain.csv", wdbc.schema.names, values)
    labelled = tmp_path / "labelled.csv"
    lines = plain.read_text().splitlines()
    labelled.write_text("\n".join([lines[0] + ",diagnosis", *(f"{line},?" for line in lines[1:])]))

    first = score(plain, tmp_path / "a.csv")
    second = score(labelled, tmp_path / "b.csv")

    assert first.output_sha256 == second.output_sha256


def test_rejected_rows_are_listed_with_every_reason(
    wdbc: Problem, values: np.ndarray, score: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    lines = write_csv(tmp_path / "in.csv", wdbc.schema.names, values, ids_of(values))
    sixth = lines.read_text().splitlines()[5].split(",")
    source = write_csv(
        tmp_path / "in.csv",
        wdbc.schema.names,
        values,
        ids_of(values),
        line_3="p1",
        line_6=",".join(["=cmd()", "high", "-4", *sixth[3:]]),
    )
    seen: list[str] = []

    report = score(
        source,
        tmp_path / "out.csv",
        block_bytes=2000,
        validate=lambda ids, values: seen.extend(ids),
    )

    assert (report.read, report.scored, report.rejected) == (120, 118, 2)
    sound = [name for name in ids_of(values) if name not in {"p1", "p4"}]
    assert [row["id"] for row in rows_of(tmp_path / "out.csv")] == sound == seen
    assert report.rejected_file == "out.rejected.csv"
    with (tmp_path / "out.rejected.csv").open(newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["line", "id", "column", "reason"],
            ["3", "", "", "has 1 field instead of 31"],
            ["6", "'=cmd()", "mean_radius", "is not a number"],
            [
                "6",
                "'=cmd()",
                "mean_texture",
                "is outside the physical range 2 to 80 grey levels",
            ],
        ]


def test_a_run_without_rejects_removes_the_rejects_of_an_earlier_one(
    wdbc: Problem, values: np.ndarray, score: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    target = tmp_path / "out.csv"
    score(write_csv(tmp_path / "in.csv", wdbc.schema.names, values, line_4="?"), target)
    assert (tmp_path / "out.rejected.csv").exists()

    report = score(write_csv(tmp_path / "in.csv", wdbc.schema.names, values), target)

    assert report.rejected_file is None
    assert sorted(folder(tmp_path)) == ["in.csv", "out.csv"]


def breaks_late(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n1,\0")


@pytest.mark.parametrize("earlier", [False, True], ids=["new output", "over an old output"])
@pytest.mark.parametrize("how", ["file", "validate", "conclude", "model", "progress", "disk"])
def test_a_failing_run_changes_no_file(
    how: str,
    earlier: bool,
    wdbc: Problem,
    values: np.ndarray,
    predictor: FakePredictor,
    score: Callable[..., ScoreReport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = write_csv(tmp_path / "in.csv", wdbc.schema.names, values, line_2="?")
    target = tmp_path / "out" / "scores.csv"
    target.parent.mkdir()
    if earlier:
        target.write_text("old scores")
        target.with_name("scores.rejected.csv").write_text("old rejects")
    before = folder(target.parent)
    blocks = 0

    def fail_at_the_third(*_: object) -> None:
        nonlocal blocks
        blocks += 1
        if blocks == 3:
            raise ExpectationsFailed("No.")

    def answer(values: np.ndarray) -> np.ndarray:
        fail_at_the_third()
        return np.full(len(values), 0.5)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    options: dict[str, Any] = {"block_bytes": 4000}
    error: type[Exception] = ExpectationsFailed
    if how == "file":
        breaks_late(source)
        error = FileRefused
    elif how == "disk":
        monkeypatch.setattr(os, "fsync", full)
        error = OSError
    elif how == "model":
        options["predictor"] = FakePredictor(wdbc.schema, answer)
    elif how == "conclude":
        blocks = 2
        options[how] = fail_at_the_third
    else:
        options[how] = fail_at_the_third

    with pytest.raises(error):
        score(source, target, **options)

    assert folder(target.parent) == before


def test_a_file_without_one_sound_row_is_not_scored_and_its_rows_are_listed(
    wdbc: Problem, values: np.ndarray, score: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    (tmp_path / "out.csv").write_text("old scores")
    (tmp_path / "out.rejected.csv").write_text("old rejects")
    wrong = values[:5].copy()
    wrong[:, 0] *= 10
    wrong[3, 1] = -1
    source = write_csv(tmp_path / "in.csv", wdbc.schema.names, wrong)

    with pytest.raises(RowsRejected) as caught:
        score(source, tmp_path / "out.csv")

    assert (caught.value.read, caught.value.accepted) == (5, 0)
    message = str(caught.value)
    assert message.startswith("No row of in.csv can be scored (5 rows: 5 x mean_radius: is outside")
    assert message.endswith("See out.rejected.csv.")
    assert caught.value.rejected_file == "out.rejected.csv"
    assert sorted(folder(tmp_path)) == ["in.csv", "out.csv", "out.rejected.csv"]
    assert (tmp_path / "out.csv").read_text() == "old scores"
    rejected = rejects_of(tmp_path / "out.rejected.csv")
    assert [row["line"] for row in rejected] == ["2", "3", "4", "5", "5", "6"]
    assert [row["column"] for row in rejected].count("mean_radius") == 5


@pytest.mark.parametrize(
    "answer",
    [
        lambda values: np.full(len(values), np.nan),
        lambda values: np.full(len(values), 1.5),
        lambda values: np.full(len(values), -0.1),
        lambda values: np.full(len(values) + 1, 0.5),
        lambda values: np.full((len(values), 2), 0.5),
    ],
    ids=["NaN", "above one", "below zero", "too many", "two columns"],
)
def test_an_answer_that_is_no_probability_is_an_error(
    answer: Callable[[np.ndarray], np.ndarray],
    wdbc: Problem,
    values: np.ndarray,
    score: Callable[..., ScoreReport],
    tmp_path: Path,
) -> None:
    source = write_csv(tmp_path / "in.csv", wdbc.schema.names, values)

    with pytest.raises(ModelError):
        score(source, tmp_path / "out.csv", predictor=FakePredictor(wdbc.schema, answer))


def test_a_file_with_other_features_than_the_models_is_refused(
    wdbc: Problem, values: np.ndarray, score: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", wdbc.schema.names, values)
    other = FakePredictor(FeatureSchema((Feature("x", "1", 0, 1),)))

    with pytest.raises(SchemaMismatch, match="expected columns"):
        score(source, tmp_path / "out.csv", predictor=other)


@pytest.mark.parametrize(
    ("source_name", "target_name"),
    [("in.csv", "in.csv"), ("in.csv", "out.Parquet"), ("in.rejected.csv", "in.csv")],
    ids=["over the source", "another format", "rejects over the source"],
)
def test_an_invalid_target_is_refused(
    source_name: str,
    target_name: str,
    wdbc: Problem,
    values: np.ndarray,
    score: Callable[..., ScoreReport],
    tmp_path: Path,
) -> None:
    source = write_csv(tmp_path / source_name, wdbc.schema.names, values)
    before = folder(tmp_path)

    with pytest.raises(ConfigError) as caught:
        score(source, tmp_path / target_name)

    assert caught.value.setting == "target"
    assert folder(tmp_path) == before


def test_progress_ends_at_the_size_of_the_file(
    wdbc: Problem, values: np.ndarray, score: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", wdbc.schema.names, values)
    size = source.stat().st_size
    calls: list[tuple[int, int, int]] = []

    score(
        source,
        tmp_path / "out.csv",
        block_bytes=4000,
        progress=lambda rows, done, total: calls.append((rows, done, total)),
    )

    assert len(calls) > 5
    assert calls == sorted(calls)
    assert calls[-1] == (120, size, size)


def test_validation_sees_each_sound_row_once_and_then_the_digest_of_the_file(
    wdbc: Problem, values: np.ndarray, score: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", wdbc.schema.names, values, ids_of(values))
    target = tmp_path / "out.csv"
    names: list[str] = []
    parts: list[np.ndarray] = []
    digests: list[str] = []

    def judge(ids: Sequence[str], part: np.ndarray) -> None:
        assert len(ids) == len(part)
        assert [ids[0], *ids[1:]] == list(ids)
        names.extend(ids)
        parts.append(part)

    def conclude(sha256: str) -> None:
        assert not target.exists()
        digests.append(sha256)

    report = score(source, target, block_bytes=4000, validate=judge, conclude=conclude)

    assert len(parts) > 3
    assert names == ids_of(values)
    assert np.array_equal(np.concatenate(parts), values)
    assert digests == [report.source_sha256]


def test_rows_without_ids_that_look_alike_have_names_of_their_own(
    wdbc: Problem, values: np.ndarray, score: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", wdbc.schema.names, values[[0, 0, 1]])
    names: list[str] = []

    score(source, tmp_path / "out.csv", validate=lambda given, _: names.extend(given))

    assert names == ["line 2", "line 3", "line 4"]


# Repeated ids ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("block_bytes", [1 << 21, 2000])
def test_all_rows_of_a_repeated_id_are_rejected_and_the_others_scored(
    tmp_path: Path,
    reference: Reference,
    suffix: str,
    block_bytes: int,
) -> None:
    schema = get_problem("wdbc").schema
    ids = [f"p{row}" for row in range(40)]
    # Beside each other, and in other portions; one of the four is defective anyway.
    ids[1], ids[39], ids[20] = "p0", "p0", "p7"
    values = reference[0][:40].copy()
    values[20, 0] = -1
    table = pa.table({"id": ids} | dict(zip(schema.names, values.T, strict=True)))
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    if suffix == "csv":
        pa_csv.write_csv(table, source)
    else:
        parquet.write_table(table, source)
    seen: list[str] = []

    def validate(names: Sequence[str], values: np.ndarray) -> None:
        assert len(names) == len(values)
        seen.extend(names)

    report = score_file(
        FakePredictor(schema),
        source,
        target,
        validate=validate,
        start_again=seen.clear,
        block_bytes=block_bytes,
    )

    assert (report.read, report.scored, report.rejected) == (40, 35, 5)
    assert seen == [name for name in ids if name not in ("p0", "p7")]
    with (tmp_path / "out.rejected.csv").open(newline="") as stream:
        rejected = list(csv.DictReader(stream))
    named = [row for row in rejected if row["reason"] == REPEATED_ID]
    assert [row["id"] for row in named] == ["p0", "p0", "p7", "p7", "p0"]
    first = 2 if suffix == "csv" else 1
    assert [int(row["line"]) for row in named] == [n + first for n in (0, 1, 7, 20, 39)]
    assert {row["column"] for row in named} == {"id"}


def test_a_file_of_one_id_alone_has_no_row_to_score(tmp_path: Path, reference: Reference) -> None:
    schema = get_problem("wdbc").schema
    table = pa.table({"id": ["p"] * 3} | dict(zip(schema.names, reference[0][:3].T, strict=True)))
    pa_csv.write_csv(table, tmp_path / "in.csv")
    with pytest.raises(RowsRejected, match="3 x id: stands for several rows"):
        score_file(FakePredictor(schema), tmp_path / "in.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert [row["reason"] for row in rejects_of(tmp_path / "out.rejected.csv")] == [REPEATED_ID] * 3


def test_equal_rows_without_ids_repeat_none(tmp_path: Path, reference: Reference) -> None:
    schema = get_problem("wdbc").schema
    values = reference[0][[0, 0, 0, 1]]
    pa_csv.write_csv(pa.table(dict(zip(schema.names, values.T, strict=True))), tmp_path / "in.csv")
    report = score_file(FakePredictor(schema), tmp_path / "in.csv", tmp_path / "out.csv")
    assert (report.scored, report.rejected_file) == (4, None)


@pytest.mark.parametrize("layout", ["csv", "parquet"])
@pytest.mark.parametrize("block_bytes", [1, 1 << 21])
def test_rows_outside_the_training_range_are_marked_and_counted(
    layout: str,
    block_bytes: int,
    wdbc: Problem,
    values: np.ndarray,
    predictor: FakePredictor,
    score: Callable[..., ScoreReport],
    tmp_path: Path,
) -> None:
    """As the warnings of ``/predict``: a value at an end of the range is inside."""
    names = wdbc.schema.names
    low, high = values.min(axis=0), values.max(axis=0)
    low[names.index("mean_texture")] = np.sort(values[:, names.index("mean_texture")])[2]
    high[names.index("mean_radius")] = np.sort(values[:, names.index("mean_radius")])[-2]
    ranges = dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True))
    predictor.manifest.training_range = ranges
    bounds = Bounds(low, high)
    source, target = tmp_path / f"in.{layout}", tmp_path / f"out.{layout}"
    if layout == "csv":
        write_csv(source, names, values)
    else:
        parquet.write_table(pa.table(dict(zip(names, values.T, strict=True))), source)

    report = score(source, target, block_bytes=block_bytes)

    expected = ["; ".join(names[at] for at in bounds.outside(row)) for row in values.tolist()]
    assert [row["outside_training_range"] or "" for row in rows_of(target)] == expected
    assert report.outside_training_range == sum(map(bool, expected))
    assert report.outside_by_feature == {"mean_radius": 1, "mean_texture": 2}


def test_no_row_is_marked_where_all_lie_within_the_range(
    wdbc: Problem, values: np.ndarray, score: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    report = score(write_csv(tmp_path / "in.csv", wdbc.schema.names, values), tmp_path / "out.csv")
    assert (report.outside_training_range, report.outside_by_feature) == (0, {})
    assert {row["outside_training_range"] for row in rows_of(tmp_path / "out.csv")} == {""}
