from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version as library_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bc_pipeline.artifacts import signed_bundle, versions
from bc_pipeline.artifacts.evidence import CallScore, Confusion, Evaluation, Parity, Score, Side
from bc_pipeline.artifacts.files import encode_document, locked
from bc_pipeline.artifacts.manifest import Lineage, Manifest, Pointer, Recipe, Registry
from bc_pipeline.artifacts.model_files import dump_estimator
from bc_pipeline.artifacts.registry import write_registry
from bc_pipeline.artifacts.signed_bundle import encrypt_if_model
from bc_pipeline.artifacts.signing import make_keys
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.code_version import code_version
from bc_pipeline.encryption import Cipher
from bc_pipeline.problems.base import Problem
from bc_pipeline.promotion import audit
from bc_pipeline.training.candidates import cross_validate
from bc_pipeline.training.fit import fit
from bc_pipeline.training.mirror import MirrorReport, mirror
from bc_pipeline.training.tracking import MlflowTracker
from tests.volumes import new_store
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from bc_pipeline.data.split import SplitSide

# MLflow's own: on SQLAlchemy 2.1, and when mlflow.sklearn is imported.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

DATASET = "0123456789abcdef"
FIRST = "20260101T000000Z-logistic-1111111111"
SECOND = "20260108T000000Z-logistic-2222222222"
THIRD = "20260115T000000Z-logistic-3333333333"


def score(f1: float | None) -> Score:
    return Score(
        rows_digest="0" * 64,
        threshold=0.25,
        keys=("a",),
        positive=(1,),
        probability=(0.9,),
        confusion=Confusion(1, 0, 0, 0),
        metrics={"f1": f1, "roc_auc": None},
        intervals={},
        sensitivity_lower_bound=None,
        calibration=(),
        slices=(),
        treat_all=0.375,
    )


@dataclass
class Volume:
    """A volume with model versions and a registry, and the MLflow that follows it."""

    problem: Problem
    store: Store
    rows: SplitSide
    keys: Path
    uri: str
    cipher: Cipher | None = None

    def publish(
        self,
        version: str,
        *,
        candidate: str = "logistic",
        passed: bool = True,
        threshold: float = 0.25,
    ) -> None:
        recipe = self.problem.candidate(candidate)
        estimator = fit(recipe, 1, self.rows.values, self.rows.positive)
        folder = self.store.work / version
        (folder / "figures").mkdir(parents=True)
        model = {signed_bundle.ESTIMATOR: dump_estimator(estimator), signed_bundle.MODEL: b"onnx"}
        for name, data in model.items():
            (folder / name).write_bytes(encrypt_if_model(version, name, data, self.cipher))
        (folder / signed_bundle.CARD).write_text("# The card")
        (folder / "figures" / "roc.png").write_bytes(b"png")
        side = Side(version, recipe.recipe, recipe.title, DATASET, "", "", score(0.95))
        evaluation = Evaluation(
            problem=self.problem.name,
            challenger=side,
            champion=None,
            champion_generation=0,
            cross_validation=score(0.9),
            holdout_comparisons=(),
            recipe_comparison=None,
            parity=Parity(1, 0.0, 0),
            nested=CallScore("", Confusion(1, 0, 0, 0), {"sensitivity": 0.75}, {}),
        )
        verdict = Verdict(
            problem=self.problem.name,
            kind="first",
            passed=passed,
            better=False,
            challenger=version,
            champion=None,
            champion_generation=0,
            policy_digest="",
            rows_digest="",
            reasons=() if passed else ("f1 on the holdout at least 0.99",),
            checks=(),
        )
        (folder / signed_bundle.EVALUATION).write_bytes(encode_document(evaluation))
        (folder / signed_bundle.VERDICT).write_bytes(encode_document(verdict))
        versions.publish(
            self.store,
            Manifest(
                problem=self.problem.name,
                version=version,
                recipe=Recipe(candidate, recipe.title, recipe.recipe, dict(recipe.params), 1),
                threshold=threshold,
                labels=self.problem.labels.to_dict(),
                schema=self.problem.schema.to_dict(),
                schema_fingerprint=self.problem.schema.fingerprint,
                training_range={},
                metrics={},
                libraries={
                    name: library_version(name) for name in ("numpy", "scikit-learn", "onnx")
                },
                lineage=Lineage(
                    dataset=DATASET,
                    batches=("b",),
                    as_of="2026-01-01T00:00:00Z",
                    split_salt="s",
                    train_rows=120,
                    holdout_rows=30,
                    validation="v",
                    code_version=code_version(),
                    run_id="manual__1",
                    interval_start=None,
                    interval_end=None,
                    live=True,
                ),
                files={},
            ),
            folder,
            self.keys / "signing.pem",
        )

    def set_alias(self, production: str | None, staging: str | None = None) -> None:
        def pointer(version: str | None) -> Pointer | None:
            if version is None:
                return None
            return Pointer(version, "", "", "", None, {}, 0.25, DATASET, "", "first", "")

        registry = Registry(
            problem=self.problem.name,
            generation=1,
            production=pointer(production),
            staging=pointer(staging),
        )
        write_registry(self.store, registry)

    def mirror(self, **options: Any) -> MirrorReport:
        uri = options.pop("uri", self.uri)
        return mirror(self.problem, self.store, uri, self.keys / "verify.pem", **options)

    @property
    def client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(self.uri, registry_uri=self.uri)

    def runs(self, role: str) -> list[Any]:
        experiment = self.client.get_experiment_by_name(self.problem.name)
        assert experiment is not None
        found = self.client.search_runs(
            [experiment.experiment_id],
            f"tags.`bc.role` = '{role}'",
            order_by=["tags.`mlflow.runName`"],
        )
        return list(found)

    def aliases(self) -> dict[str, str]:
        """Our version behind each alias."""
        model = self.client.get_registered_model(self.problem.name)
        return {
            alias: self.client.get_model_version(model.name, number).tags["bc.version"]
            for alias, number in model.aliases.items()
        }

    def registered_versions(self) -> list[str]:
        found = self.client.search_model_versions(f"name = '{self.problem.name}'")
        return sorted(entry.tags["bc.version"] for entry in found)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables; making them takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def volume(
    quick: Problem,
    store: Store,
    rows: SplitSide,
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Volume:
    # Without a server MLflow puts artifacts below the working directory.
    monkeypatch.chdir(tmp_path)
    database = tmp_path / "mlflow.db"
    database.write_bytes(empty_database.read_bytes())
    keys = tmp_path / "keys"
    make_keys(keys / "signing.pem", keys / "verify.pem")
    begin_history(store)
    return Volume(quick, store, rows, keys, f"sqlite:///{database}")


def begin_history(store: Store) -> None:
    """Write the first line of the audit log, by which the volume is known."""
    audit.append(
        store,
        "verdict",
        version=FIRST,
        generation=0,
        actor="pipeline",
        at="2026-01-01T00:00:00Z",
    )


@pytest.fixture
def scratch(volume: Volume, tmp_path: Path) -> Volume:
    """Another volume, with the same rows and so the same names of versions, and the same MLflow."""
    store = new_store(tmp_path / "scratch")
    begin_history(store)
    return replace(volume, store=store)


def test_a_version_becomes_a_run_with_all_its_evidence(volume: Volume) -> None:
    for candidate in volume.problem.candidates:
        cross_validate(
            volume.problem,
            candidate,
            volume.rows,
            store=volume.store,
            dataset=DATASET,
        )
    volume.publish(FIRST)

    assert volume.mirror() == MirrorReport(mirrored=1, failed=0)

    (run,) = volume.runs("retrain")
    assert run.info.run_name == FIRST
    assert run.info.status == "FINISHED"
    tags = {name: run.data.tags[f"bc.{name}"] for name in ("version", "dataset", "verdict")}
    assert tags == {"version": FIRST, "dataset": DATASET, "verdict": "passed"}
    assert run.data.tags["bc.run_id"] == "manual__1"
    assert run.data.tags["bc.code_version"] == code_version()
    assert run.data.params["candidate"] == "logistic"
    assert run.data.params["model.C"] == "1.0"
    # Figures that could not be computed are left out.
    assert run.data.metrics == {
        "nested/sensitivity": 0.75,
        "cv/f1": 0.9,
        "cv/net_benefit_treat_all": 0.375,
        "holdout/f1": 0.95,
        "holdout/net_benefit_treat_all": 0.375,
    }
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == DATASET
    assert [entry.path for entry in volume.client.list_artifacts(run.info.run_id)] == [
        "card.md",
        "evaluation.json",
        "figures",
        "verdict.json",
    ]
    figures = volume.client.list_artifacts(run.info.run_id, "figures")
    assert [entry.path for entry in figures] == ["figures/roc.png"]

    children = volume.runs("candidate")
    assert [child.info.run_name for child in children] == ["logistic", "loose"]
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {run.info.run_id}
    assert [child.data.tags["bc.chosen"] for child in children] == ["true", "false"]
    assert all(0 < child.data.metrics["cv/brier"] < 0.2 for child in children)


@pytest.mark.parametrize("name", ["logistic", "svm_rbf", "random_forest", "gradient_boosting"])
def test_the_champion_can_be_loaded_by_its_alias(
    name: str, volume: Volume, wdbc: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    candidate = wdbc.candidate(name)
    if "n_estimators" in candidate.params:
        candidate = replace(candidate, params={**candidate.params, "n_estimators": 5})
    volume.problem = replace(volume.problem, candidates=(candidate,))
    volume.publish(FIRST, candidate=name)
    volume.set_alias(FIRST)

    assert volume.mirror() == MirrorReport(mirrored=1, failed=0)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", volume.uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", volume.uri)
    loaded = mlflow.sklearn.load_model("models:/wdbc@production")
    expected = fit(candidate, 1, volume.rows.values, volume.rows.positive)
    np.testing.assert_array_equal(
        loaded.predict_proba(volume.rows.values), expected.predict_proba(volume.rows.values)
    )
    signature = mlflow.models.get_model_info("models:/wdbc@production").signature
    assert signature.inputs.input_names() == list(wdbc.schema.names)


def test_an_encrypted_model_leaves_no_plain_copy(volume: Volume, wdbc: Problem) -> None:
    volume.cipher = Cipher(bytes(32))
    volume.publish(FIRST)
    volume.set_alias(FIRST)
    # The mirror has no key, and needs none.
    assert volume.mirror() == MirrorReport(mirrored=1, failed=0)
    (run,) = volume.runs("retrain")
    assert run.data.metrics["holdout/f1"] == 0.95
    entry = volume.client.get_model_version_by_alias("wdbc", "production")
    assert entry.tags["bc.version"] == FIRST
    model = volume.client.get_logged_model(entry.source.removeprefix("models:/"))
    assert model.tags["bc.encrypted"] == "true"
    assert volume.client.list_logged_model_artifacts(model.model_id) == []
    assert volume.mirror() == MirrorReport(mirrored=0, failed=0)


def test_a_second_call_writes_nothing(volume: Volume) -> None:
    volume.publish(FIRST)
    volume.mirror()
    before = Path(volume.uri.removeprefix("sqlite:///")).read_bytes()

    assert volume.mirror() == MirrorReport(mirrored=0, failed=0)
    assert Path(volume.uri.removeprefix("sqlite:///")).read_bytes() == before


def test_a_rejected_version_has_a_run_but_is_not_registered(volume: Volume) -> None:
    volume.publish(FIRST)
    volume.publish(SECOND, passed=False)

    assert volume.mirror() == MirrorReport(mirrored=2, failed=0)

    assert [run.data.tags["bc.verdict"] for run in volume.runs("retrain")] == ["passed", "rejected"]
    assert volume.registered_versions() == [FIRST]
    (entry,) = volume.client.search_model_versions("name = 'wdbc'")
    assert entry.tags["bc.version"] == FIRST
    assert entry.tags["bc.verdict"] == "passed"


def test_the_list_of_versions_shows_figures(volume: Volume) -> None:
    volume.publish(FIRST)
    volume.mirror()
    (entry,) = volume.client.search_model_versions("name = 'wdbc'")
    # The list has no column for metrics: it shows tags, and the description's beginning.
    assert entry.tags["F1"] == "0.950"
    assert entry.description.startswith("F1 0.950 on the holdout. ")


def test_aliases_follow_the_registry(volume: Volume) -> None:
    volume.publish(FIRST)
    volume.publish(SECOND)
    volume.set_alias(FIRST, staging=SECOND)
    volume.mirror()
    assert volume.aliases() == {"production": FIRST, "staging": SECOND}

    volume.set_alias(SECOND)
    volume.mirror()
    assert volume.aliases() == {"production": SECOND}

    volume.set_alias(FIRST)  # rolled back
    assert volume.mirror() == MirrorReport(mirrored=0, failed=0)
    assert volume.aliases() == {"production": FIRST}


@pytest.mark.parametrize(
    "step",
    [
        "log_model_artifacts",
        "log_artifacts",
        "create_model_version",
        "set_tag",
        "set_registered_model_alias",
    ],
)
def test_an_interrupted_version_is_written_again(
    step: str, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    volume.publish(FIRST)
    volume.set_alias(FIRST)

    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk full\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, broken)
        report = volume.mirror()
    assert report.failed > 0
    assert report.reason.endswith("disk full")

    repeated = volume.mirror()

    assert repeated.failed == 0
    (run,) = volume.runs("retrain")
    assert run.info.status == "FINISHED"
    assert volume.registered_versions() == [FIRST]
    assert volume.aliases() == {"production": FIRST}
    models = volume.client.search_logged_models([run.info.experiment_id])
    assert [model.source_run_id for model in models] == [run.info.run_id]
    assert volume.mirror() == MirrorReport(mirrored=0, failed=0)


def test_a_version_that_was_deleted_in_mlflow_is_written_again(volume: Volume) -> None:
    volume.publish(FIRST)
    volume.publish(SECOND)
    volume.set_alias(SECOND)
    volume.mirror()
    volume.client.delete_run(volume.runs("retrain")[0].info.run_id)
    volume.client.delete_registered_model("wdbc")

    assert volume.mirror() == MirrorReport(mirrored=2, failed=0)
    assert volume.registered_versions() == [FIRST, SECOND]
    assert volume.aliases() == {"production": SECOND}


def test_a_deleted_experiment_is_restored(volume: Volume) -> None:
    volume.publish(FIRST)
    volume.mirror()
    volume.client.delete_experiment(volume.runs("retrain")[0].info.experiment_id)

    assert volume.mirror().failed == 0
    assert [run.info.run_name for run in volume.runs("retrain")] == [FIRST]


def test_a_damaged_version_does_not_stop_the_others(volume: Volume) -> None:
    for version in (FIRST, SECOND, THIRD):
        volume.publish(version)
    damaged = volume.store.version(SECOND) / signed_bundle.ESTIMATOR
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    volume.set_alias(SECOND)

    report = volume.mirror()

    assert report.mirrored == 2
    # The version, and the alias that should name it.
    assert report.failed == 2
    assert SECOND in report.reason
    assert "not the file that was signed" in report.reason
    assert volume.registered_versions() == [FIRST, THIRD]
    assert volume.aliases() == {}


def test_a_broken_registry_is_reported(volume: Volume) -> None:
    volume.publish(FIRST)
    volume.store.registry.write_text("{}")

    report = volume.mirror()

    assert (report.mirrored, report.failed) == (1, 1)
    assert report.reason.startswith("aliases: ")


def test_an_outage_of_mlflow_is_reported_soon_and_made_up_later(volume: Volume) -> None:
    volume.publish(FIRST)
    volume.publish(SECOND)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    began = time.monotonic()

    report = volume.mirror(uri=f"http://127.0.0.1:{port}")

    assert time.monotonic() - began < PATIENCE
    assert (report.mirrored, report.failed) == (0, 2)
    assert str(port) in report.reason
    assert volume.mirror() == MirrorReport(mirrored=2, failed=0)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_is_given_up(volume: Volume, silent: str) -> None:
    volume.publish(FIRST)
    began = time.monotonic()

    report = volume.mirror(uri=silent, request_seconds=1)

    assert time.monotonic() - began < PATIENCE
    assert report.failed == 1


def test_a_password_in_the_tracking_uri_is_not_reported(volume: Volume) -> None:
    volume.publish(FIRST)
    report = volume.mirror(uri="http://ada:hunter2@127.0.0.1:9", request_seconds=1)
    assert report.failed == 1
    assert "127.0.0.1:9" in report.reason
    assert "hunter2" not in report.reason


def test_an_outage_during_the_call_ends_it(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in (FIRST, SECOND, THIRD):
        volume.publish(version)
    written: list[str] = []

    def write_version(self: MlflowTracker, version: Any) -> None:
        if written:
            raise ConnectionError("gone")
        written.append(version.version)

    monkeypatch.setattr(MlflowTracker, "write_version", write_version)
    monkeypatch.setattr(MlflowTracker, "is_reachable", lambda self: False)

    report = volume.mirror()

    assert (report.mirrored, report.failed) == (1, 2)
    assert report.reason == f"{SECOND}: gone"


def test_no_version_is_started_after_the_time_limit(volume: Volume) -> None:
    volume.publish(FIRST)

    report = volume.mirror(budget_seconds=-1.0)

    assert (report.mirrored, report.failed) == (0, 1)
    assert "time" in report.reason


def test_two_mirrors_at_once_do_not_write_twice(volume: Volume) -> None:
    volume.publish(FIRST)

    with locked(volume.store.mirror_lock):
        report = volume.mirror(request_seconds=0)

    assert (report.mirrored, report.failed) == (0, 1)
    assert ".mirror.lock" in report.reason


def test_the_callers_environment_is_left_as_it_was(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = dict(os.environ)
    volume.mirror()
    assert dict(os.environ) == before


def test_an_empty_volume_is_no_failure(volume: Volume) -> None:
    assert volume.mirror() == MirrorReport(mirrored=0, failed=0)


def test_an_empty_volume_moves_no_alias(volume: Volume, scratch: Volume) -> None:
    volume.publish(FIRST)
    volume.set_alias(FIRST)
    volume.mirror()
    assert scratch.mirror() == MirrorReport(mirrored=0, failed=0)
    assert volume.aliases() == {"production": FIRST}


def test_another_volume_writes_nothing(volume: Volume, scratch: Volume) -> None:
    volume.publish(FIRST)
    volume.set_alias(FIRST)
    volume.mirror()
    scratch.publish(FIRST)
    scratch.publish(SECOND)
    scratch.set_alias(SECOND)
    before = Path(volume.uri.removeprefix("sqlite:///")).read_bytes()

    report = scratch.mirror()

    assert (report.mirrored, report.failed) == (0, 2)
    assert report.reason == (
        f"The registered model 'wdbc' in MLflow mirrors another volume, {volume.store.home}: "
        "nothing was written there. Name another server, or rename or delete that model."
    )
    assert Path(volume.uri.removeprefix("sqlite:///")).read_bytes() == before
    assert volume.mirror() == MirrorReport(mirrored=0, failed=0)


def test_a_copy_of_the_volume_writes_nothing_until_the_model_is_given_to_it(
    volume: Volume, tmp_path: Path
) -> None:
    volume.publish(FIRST)
    volume.set_alias(FIRST)
    volume.mirror()
    shutil.copytree(volume.store.home, tmp_path / "copy")
    copy = replace(volume, store=Store(tmp_path / "copy", "wdbc"))
    copy.publish(SECOND)
    copy.set_alias(SECOND)

    report = copy.mirror()

    assert (report.mirrored, report.failed) == (0, 2)
    assert f"mirrors {volume.store.home}, of which {tmp_path / 'copy'} is a copy" in report.reason
    assert "delete the model's tag 'bc.volume'" in report.reason
    assert volume.aliases() == {"production": FIRST}

    volume.client.delete_registered_model_tag("wdbc", "bc.volume")
    assert copy.mirror() == MirrorReport(mirrored=1, failed=0)
    assert copy.aliases() == {"production": SECOND}
    assert f"which {volume.store.home} is a copy" in volume.mirror().reason


def test_a_volume_that_is_restored_to_its_place_goes_on(volume: Volume, tmp_path: Path) -> None:
    volume.publish(FIRST)
    shutil.copytree(volume.store.home, tmp_path / "backup")
    volume.publish(SECOND)
    volume.set_alias(SECOND)
    volume.mirror()
    shutil.rmtree(volume.store.home)
    shutil.copytree(tmp_path / "backup", volume.store.home)
    volume.publish(THIRD)
    volume.set_alias(THIRD)

    assert volume.mirror() == MirrorReport(mirrored=1, failed=0)
    assert volume.aliases() == {"production": THIRD}


def test_the_model_of_an_earlier_release_is_that_of_its_versions(
    volume: Volume, scratch: Volume
) -> None:
    volume.publish(FIRST)
    volume.set_alias(FIRST)
    volume.mirror()
    for tag in ("bc.volume", "bc.volume_home"):
        volume.client.delete_registered_model_tag("wdbc", tag)
    # The same name; another run, and so another manifest.
    scratch.publish(FIRST, threshold=0.5)

    assert "has none of this volume's versions" in scratch.mirror().reason
    assert "bc.volume" not in volume.client.get_registered_model("wdbc").tags
    assert volume.mirror() == MirrorReport(mirrored=0, failed=0)
    assert volume.client.get_registered_model("wdbc").tags["bc.volume_home"] == str(
        volume.store.home
    )


def test_a_volume_without_history_is_not_mirrored(volume: Volume) -> None:
    volume.publish(FIRST)
    volume.store.audit.unlink()
    report = volume.mirror()
    assert (report.mirrored, report.failed) == (0, 1)
    assert report.reason == "The audit log of wdbc has no line yet."


def test_pages_of_mlflow_say_that_they_mirror(volume: Volume) -> None:
    volume.publish(FIRST)
    experiment = volume.client.create_experiment("wdbc")  # By an earlier release.
    volume.client.create_registered_model("wdbc", description=volume.problem.title)

    volume.mirror()

    tags = volume.client.get_experiment(experiment).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert f"a mirror of the volume `{volume.store.home}`" in tags["mlflow.note.content"]
    model = volume.client.get_registered_model("wdbc")
    assert model.description == tags["mlflow.note.content"]


def test_what_people_wrote_in_mlflow_stays(volume: Volume) -> None:
    volume.publish(FIRST)
    volume.mirror()
    volume.client.update_registered_model("wdbc", "Ask Ada.")
    experiment = volume.client.get_experiment_by_name("wdbc")
    assert experiment is not None
    volume.client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "Our notes")

    volume.mirror()

    assert volume.client.get_registered_model("wdbc").description == "Ask Ada."
    assert volume.client.get_experiment(experiment.experiment_id).tags["mlflow.note.content"] == (
        "Our notes"
    )
