from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import to_builtins

from bc_pipeline import steps
from bc_pipeline.artifacts import signed_bundle, work_folder
from bc_pipeline.artifacts.files import sha256_file
from bc_pipeline.artifacts.manifest import DagCode
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_document import write_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import claim_store
from bc_pipeline.clock import parse_time
from bc_pipeline.code_version import code_version
from bc_pipeline.data.batches import list_batches
from bc_pipeline.errors import (
    ArtifactCorrupt,
    AuditBroken,
    ConfigError,
    FileRefused,
    NoChampion,
    NotReleasable,
    NotReproducible,
    NotStored,
    TransientError,
    VersionConflict,
)
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings
from tests.unit.steps.runs import judge, week

pytestmark = pytest.mark.integration

Land = Callable[..., Path]


@pytest.fixture
def volume(settings: Settings) -> Store:
    return Store(settings.home, "toy")


def test_a_first_model_is_promoted_and_the_same_run_again_changes_nothing(
    toy: Problem, land: Land, volume: Store
) -> None:
    land("base.csv", 1, "2026-02-01")
    verdict = judge(week(1))
    assert (verdict["kind"], verdict["passed"]) == ("first", True)
    assert steps.promote(Settings(), week(1), verdict["version"])["changed"]
    registry = volume.registry.read_bytes()
    audit = volume.audit.read_bytes()
    files = {path: path.read_bytes() for path in volume.versions.rglob("*") if path.is_file()}

    again = judge(week(1))

    assert again == verdict
    assert not steps.promote(Settings(), week(1), again["version"])["changed"]
    assert volume.registry.read_bytes() == registry
    assert volume.audit.read_bytes() == audit
    assert files == {p: p.read_bytes() for p in volume.versions.rglob("*") if p.is_file()}
    assert not list(volume.work.iterdir())


def test_a_refresh_follows_and_a_noisy_challenger_does_not(
    toy: Problem, land: Land, volume: Store
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    land("more.csv", 2, "2026-03-01T12:00:00Z")
    refresh = judge(week(2))
    assert (refresh["kind"], refresh["passed"]) == ("refresh", True)
    steps.promote(Settings(), week(2), refresh["version"])

    for number in range(3, 7):
        land(f"noisy-{number}.csv", number, "2026-03-02T12:00:00Z", noisy=True)
    bad = judge(week(3))
    assert not bad["passed"]
    assert bad["reasons"]
    with pytest.raises(NotReleasable):
        steps.promote(Settings(), week(3), bad["version"])
    production = read_registry(volume).production
    assert production is not None
    assert production.version == refresh["version"]


def test_a_backfilled_run_leaves_a_verdict_and_moves_nothing(
    toy: Problem, land: Land, volume: Store
) -> None:
    land("base.csv", 1, "2026-02-01")
    verdict = judge(week(1, live=False))
    assert verdict["passed"]
    assert read_registry(volume).staging is None
    with pytest.raises(NotReleasable):
        steps.promote(Settings(), week(1, live=False), verdict["version"])
    found = steps.verdict(Settings(), "toy", verdict["version"])
    assert (found["run_id"], found["live"]) == ("run-1", False)
    live = judge(week(1))
    assert live["version"] != verdict["version"]
    assert steps.promote(Settings(), week(1), live["version"])["changed"]


def test_a_verdict_against_an_earlier_champion_does_not_count(toy: Problem, land: Land) -> None:
    land("base.csv", 1, "2026-02-01")
    one, two = judge(week(1)), judge(week(2))
    steps.promote(Settings(), week(1), one["version"])
    with pytest.raises(VersionConflict):
        steps.promote(Settings(), week(2), two["version"])


def test_older_data_does_not_replace_newer_but_a_backfill_may_look_back(
    toy: Problem, land: Land
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(5), judge(week(5))["version"])
    older = judge(week(3))
    (reason,) = older["reasons"]
    assert reason.startswith("not met: data no older than the champion's. Champion: as of ")
    with pytest.raises(NotReleasable):
        steps.promote(Settings(), week(3), older["version"])
    assert judge(replace(week(2), live=False, looks_back=True))["passed"]


def test_rollback_brings_the_champion_before_back(toy: Problem, land: Land, volume: Store) -> None:
    land("base.csv", 1, "2026-02-01")
    first = judge(week(1))["version"]
    steps.promote(Settings(), week(1), first)
    steps.promote(Settings(), week(2), judge(week(2))["version"])
    assert steps.rollback(Settings(), "toy", None, "me")["version"] == first
    assert steps.audit(Settings(), "toy")["lines"] > 3
    events = [line["event"] for line in steps.audit_lines(Settings(), "toy")]
    assert events == ["rollback", "promotion", "verdict", "promotion", "verdict"]
    about = steps.audit_lines(Settings(), "toy", first)
    # Its release, that of the next one, which replaced it, and its return.
    assert [line["event"] for line in about] == ["rollback", "promotion", "promotion", "verdict"]


def test_a_version_is_made_again_from_its_inputs(
    toy: Problem, land: Land, volume: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    land("base.csv", 1, "2026-02-01")
    version = judge(week(1))["version"]
    shutil.rmtree(volume.candidates)
    # Said to have arrived before the version was made, landed after it.
    land("late.csv", 2, "2026-02-02")
    steps.ingest(Settings(), week(1))
    assert steps.verify_repro(Settings(), "toy", version)["worst_difference"] <= 1e-12
    monkeypatch.setattr("bc_pipeline.steps.reproduce.code_version", lambda: "other")
    with pytest.raises(NotReproducible, match="made by code"):
        steps.verify_repro(Settings(), "toy", version)


def test_batch_scores_stand_once_for_interval_champion_and_inputs(
    toy: Problem, land: Land, volume: Store
) -> None:
    claim_store(volume.home)
    with pytest.raises(NoChampion):
        steps.batch_score(Settings(), week(1))
    source = land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    with pytest.raises(NotStored, match="worklist"):
        steps.batch_score(Settings(), week(1))
    volume.worklist.mkdir(parents=True)
    shutil.copy2(source, volume.worklist / "fruit.csv")
    result = steps.batch_score(Settings(), week(1))
    folder = volume.home / result["output"]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert (result["read"], result["scored"]) == (240, 240)
    (validation,) = json.loads((folder / "manifest.json").read_text())["validations"]
    # Only a failed expectation makes a page.
    assert volume.validation_results(validation).is_file()
    assert not volume.validation_page(validation).exists()
    assert steps.batch_score(Settings(), week(1)) == result
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    with (folder / "fruit.scores.csv").open() as stream:
        assert {row["prediction"] for row in csv.DictReader(stream)} == {"5", "7"}
    assert steps.newest_scores(Settings(), "toy") == str(folder)


def test_manifests_say_which_code_made_them(toy: Problem, land: Land, volume: Store) -> None:
    source = land("base.csv", 1, "2026-02-01")
    dag = DagCode("toy_retrain", "0199f0a0", "dags", "9fceb02", "e" * 64)
    run = replace(week(1), dag=dag)
    version = judge(run)["version"]
    steps.promote(Settings(), run, version)
    lineage = json.loads((volume.version(version) / "manifest.json").read_text())["lineage"]
    assert (lineage["code_version"], lineage["dag"]) == (code_version(), to_builtins(dag))
    # Which DAG asked for it is not what a version is made of.
    assert judge(week(1))["version"] == version
    assert steps.verdict(Settings(), "toy", version)["dag"]["bundle_version"] == "9fceb02"
    card = (volume.version(version) / "card.md").read_text()
    assert "DAG `toy_retrain` of bundle `dags` at `9fceb02`, sources `eeeeeeeeeeee`" in card

    scores = (
        volume.home
        / steps.batch_score(Settings(), run, source=str(source))["output"]
        / "manifest.json"
    )
    origin = {"run_id": "run-1", "code_version": code_version(), "dag": to_builtins(dag)}
    plain = json.loads(scores.read_text())
    assert plain["origin"] == origin
    # A manifest of the release before says nothing of it, and is found all the same.
    del plain["origin"]
    write_signed(volume, scores, json.dumps(plain | {"format": 1}).encode())
    assert steps.batch_score(Settings(), run, source=str(source))["scored"] == plain["scored"]


def test_a_bad_file_does_not_keep_the_scores_of_the_others_back(
    toy: Problem, land: Land, volume: Store
) -> None:
    source = land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    volume.worklist.mkdir(parents=True)
    shutil.copy2(source, volume.worklist / "fruit.csv")
    shutil.copy2(source, volume.worklist / "bad.csv")
    (volume.worklist / "bad.csv").write_text("taste,smell\n1,2\n")
    header = source.read_text().partition("\n")[0]
    (volume.worklist / "worse.csv").write_text(header + "\n?" + "," * header.count(","))
    for name in ("bad.csv", "worse.csv"):
        os.utime(volume.worklist / name, (0, 0))
    why = r"2 of 3 files .* bad\.csv: .* worse\.csv: .* See worse\.scores\.rejected\.csv"
    for _ in range(2):
        with pytest.raises(FileRefused, match=why):
            steps.batch_score(Settings(), week(1))
    folder = Path(steps.newest_scores(Settings(), "toy") or "")
    assert "is not a number" in (folder / "worse.scores.rejected.csv").read_text()
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".sig") == [
        "fruit.scores.csv",
        "manifest.json",
        "worse.scores.rejected.csv",
    ]


def test_a_file_of_a_wrong_time_or_name_in_the_worklist_is_refused_by_name(
    toy: Problem, land: Land, volume: Store
) -> None:
    source = land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    bad = os.fsdecode(b"caf\xe9.csv")
    _, late, named = _worklist(volume, source, "fruit.csv", "late.csv", bad)
    os.utime(late, (2.0**32, 2.0**32))
    for _ in range(2):
        with pytest.raises(FileRefused, match="2 of 3 files could not be scored") as caught:
            steps.batch_score(Settings(), week(1))
        reasons = [defect.reason for defect in caught.value.defects]
        assert r"caf\xe9.csv: has a name that is not UTF-8. Rename the file" in reasons
        assert any(reason.startswith("late.csv: was last modified at 2106-") for reason in reasons)
    os.utime(late, (0, 0))
    named.unlink()
    assert steps.batch_score(Settings(), week(1))["scored"] == 480
    os.utime(late, (2.0**32, 2.0**32))
    (volume.worklist / "fruit.csv").unlink()
    with pytest.raises(FileRefused, match="No file could be scored"):
        steps.batch_score(Settings(), week(1))


def test_damaged_versions_are_not_taken_for_done(toy: Problem, land: Land, volume: Store) -> None:
    land("base.csv", 1, "2026-02-01")
    version = judge(week(1))["version"]
    model = volume.version(version) / signed_bundle.MODEL
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ArtifactCorrupt):
        judge(week(1))


def _worklist(volume: Store, source: Path, *names: str) -> list[Path]:
    volume.worklist.mkdir(parents=True)
    return [Path(shutil.copy2(source, volume.worklist / name)) for name in names]


def test_inputs_of_one_stem_keep_their_scores_and_rejected_rows(
    toy: Problem, land: Land, volume: Store
) -> None:
    source = land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    upper, _ = _worklist(volume, source, "a.CSV", "a.csv")
    lines = source.read_text().splitlines()
    upper.write_text("\n".join([lines[0], "999,1,1,ripe", *lines[2:]]))
    os.utime(upper, (0, 0))
    result = steps.batch_score(Settings(), week(1))
    assert (result["scored"], result["rejected"]) == (479, 1)
    folder = volume.home / result["output"]
    written = [path for path in folder.iterdir() if path.name.endswith(".scores.csv")]
    assert sum(len(path.read_text().splitlines()) - 1 for path in written) == 479
    reports = json.loads((folder / "manifest.json").read_text())["reports"]
    (rejected,) = [report["rejected_file"] for report in reports if report["rejected_file"]]
    assert "999" not in (folder / rejected).read_text()
    assert "physical range" in (folder / rejected).read_text()


def test_scores_say_which_rows_lie_outside_the_training_range(
    toy: Problem, land: Land, volume: Store
) -> None:
    source = land("base.csv", 1, "2026-02-01")
    version = judge(week(1))["version"]
    steps.promote(Settings(), week(1), version)
    manifest = json.loads((volume.version(version) / "manifest.json").read_text())
    (path,) = _worklist(volume, source, "fruit.csv")
    names, *lines = path.read_text().splitlines()
    first = names.split(",")[0]
    cells = lines[0].split(",")
    cells[0] = str(manifest["training_range"][first][1] + 0.01)
    path.write_text("\n".join([names, ",".join(cells), *lines[1:]]))
    os.utime(path, (0, 0))
    result = steps.batch_score(Settings(), week(1))
    found = json.loads((volume.home / result["output"] / "manifest.json").read_text())
    (report,) = found["reports"]
    assert report["outside_by_feature"][first] >= 1
    marked = report["outside_training_range"]
    assert result["outside_training_range"] == found["outside_training_range"] == marked >= 1


def test_a_file_that_arrived_in_the_second_of_the_run_is_scored(
    toy: Problem, land: Land, volume: Store
) -> None:
    source = land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    (path,) = _worklist(volume, source, "fruit.csv")
    arrived = parse_time(week(5).as_of).timestamp() + 0.4
    os.utime(path, (arrived, arrived))
    assert steps.batch_score(Settings(), week(5))["scored"] == 240


def test_a_file_that_changes_while_it_is_scored_is_tried_again(
    toy: Problem, land: Land, volume: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    (path,) = _worklist(volume, source, "fruit.csv")

    def digest(path: Path) -> str:
        found = sha256_file(path)
        path.write_text("\n".join(path.read_text().splitlines()[:-1]))
        return found

    monkeypatch.setattr("bc_pipeline.scoring.local_batch.sha256_file", digest)
    with pytest.raises(TransientError, match=path.name):
        steps.batch_score(Settings(), week(1))
    assert not list(volume.scores.rglob("*.csv"))


def test_a_verdict_that_was_cut_short_is_written_by_the_next_try(
    toy: Problem, land: Land, volume: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    land("base.csv", 1, "2026-02-01")

    def cut_short(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bc_pipeline.promotion.judge.versions.publish", cut_short)
        with pytest.raises(KeyboardInterrupt):
            judge(week(1))
    (folder,) = volume.work.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("bc_pipeline.artifacts.signed_bundle.signing.sign", cut_short)
        with pytest.raises(KeyboardInterrupt):
            steps.decide(Settings(), week(1), folder.name)
    assert steps.decide(Settings(), week(1), folder.name)["passed"]
    assert not list(volume.work.iterdir())


def test_changed_parameters_are_measured_against_the_champions(
    toy: Problem, land: Land, volume: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    land("base.csv", 1, "2026-02-01")
    champion = judge(week(1))["version"]
    steps.promote(Settings(), week(1), champion)
    logistic, forest = toy.candidates
    changed = replace(logistic, params=dict(logistic.params) | {"C": 0.5})
    monkeypatch.setattr(
        "bc_pipeline.problems.PROBLEMS", (replace(toy, candidates=(changed, forest)),)
    )
    switch = judge(week(2))["challengers"][0]
    verdict = steps.verdict(Settings(), "toy", switch["version"])
    assert (verdict["kind"], verdict["champion"]) == ("switch", champion)
    checks = {check["name"]: check for check in verdict["checks"]}
    assert checks["recipe_gain"]["note"].startswith("p = ")


def test_without_its_registry_a_problem_does_not_start_anew(
    toy: Problem, land: Land, volume: Store
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    volume.registry.unlink()
    with pytest.raises(AuditBroken, match="ends with"):
        judge(week(2))
    assert not volume.registry.exists()


def test_a_manifest_tells_no_other_time_than_its_datasets(
    toy: Problem, land: Land, volume: Store
) -> None:
    land("base.csv", 1, "2026-02-01")
    land("more.csv", 2, "2026-03-03T12:00:00Z")
    steps.ingest(Settings(), week(1))
    early = steps.snapshot(Settings(), week(1), "")["dataset"]
    with pytest.raises(ConfigError, match=early):
        steps.export(Settings(), week(9), early, "logistic", 0.5, "")


def test_export_names_the_batches_that_the_snapshot_returned(
    toy: Problem, land: Land, volume: Store
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.ingest(Settings(), week(1))
    snapshot = steps.snapshot(Settings(), week(1), "")
    assert snapshot["batches"] == [batch.batch for batch in list_batches(volume)]
    for path in volume.batches.glob("*.parquet"):
        path.unlink()
    exported = steps.export(
        Settings(), week(1), snapshot["dataset"], "logistic", 0.5, "", snapshot["batches"]
    )
    files = work_folder.open_challenger(volume, exported["version"], Settings().verify_key)
    assert files.manifest.lineage.batches == tuple(snapshot["batches"])


def test_the_training_log_tells_each_candidate_evaluation_and_decision(
    toy: Problem, land: Land, volume: Store
) -> None:
    land("base.csv", 1, "2026-02-01")
    judge(week(1))
    lines = volume.training_log.read_text().splitlines()
    events = [line.split("event=")[1].split()[0] for line in lines]
    assert events == ["candidate", "candidate", "evaluation", "decision"]
    assert "passed=true" in lines[-1]
