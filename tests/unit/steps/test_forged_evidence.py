"""Files that are changed between two steps, and evidence that does not follow from the models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts import signed_bundle, versions, work_folder
from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.artifacts.files import encode_document
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import ArtifactCorrupt, EvidenceMismatch, SignatureInvalid
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings
from bc_pipeline.steps import Run

pytestmark = pytest.mark.integration

RUN = Run("toy", "run-1", "2026-03-01T00:00:00Z")
Step = Callable[[], Any]


@pytest.fixture
def volume(settings: Settings) -> Store:
    return Store(settings.home, "toy")


class Workflow:
    """The steps of a run, one after the other."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.results: dict[str, Any] = {}
        self.steps: dict[str, Step] = {
            "ingest": lambda: steps.ingest(self.settings, RUN),
            "validate": lambda: steps.validate(self.settings, RUN),
            "snapshot": lambda: steps.snapshot(
                self.settings, RUN, self.results["validate"]["validation"]
            ),
            "train": self._train,
            "select": lambda: steps.select(self.settings, RUN, self._dataset),
            "export": self._export,
            "evaluate": lambda: steps.evaluate(self.settings, RUN, self._version),
            "decide": lambda: steps.decide(self.settings, RUN, self._version),
            "promote": lambda: steps.promote(self.settings, RUN, self._version),
            "champion": lambda: versions.open_champion(
                Store(self.settings.home, "toy"), self.settings.verify_key
            ).verify_all(),
        }

    def run(self, until: str) -> None:
        """Every step before one."""
        for name, step in self.steps.items():
            if name == until:
                return
            self.results[name] = step()

    @property
    def _dataset(self) -> str:
        return str(self.results["snapshot"]["dataset"])

    @property
    def _version(self) -> str:
        return str(self.results["export"]["version"])

    def _train(self) -> None:
        for candidate in steps.candidates("toy"):
            steps.train(self.settings, RUN, self._dataset, candidate)

    def _export(self) -> Any:
        chosen, snapshot = self.results["select"], self.results["snapshot"]
        return steps.export(
            self.settings,
            RUN,
            self._dataset,
            chosen["candidate"],
            chosen["threshold"],
            self.results["validate"]["validation"],
            snapshot["batches"],
        )


@pytest.fixture
def workflow(toy: Problem, land: Callable[..., Path]) -> Workflow:
    land("base.csv", 1, "2026-02-01")
    return Workflow()


# Before a step: the files that it reads, as patterns below the volume.
READ = {
    "validate": ("data/toy/batches/*.json", "data/toy/batches/*.parquet"),
    "snapshot": ("data/toy/batches/*.json", "data/toy/batches/*.parquet"),
    "train": ("data/toy/datasets/*.json", "data/toy/datasets/*.parquet"),
    "select": ("models/toy/candidates/*/result.json", "models/toy/candidates/*/*.parquet"),
    "export": ("data/toy/datasets/*.json", "data/toy/datasets/*.parquet"),
    "evaluate": (
        "data/toy/datasets/*.json",
        "data/toy/datasets/*.parquet",
        "models/toy/candidates/*/result.json",
        "models/toy/candidates/*/*.parquet",
        "models/toy/work/*/manifest.*",
        "models/toy/work/*/model.onnx",
        "models/toy/work/*/parity.json",
    ),
    "decide": (
        "data/toy/datasets/*.json",
        "data/toy/datasets/*.parquet",
        "models/toy/candidates/*/result.json",
        "models/toy/candidates/*/*.parquet",
        "models/toy/work/*/*.*",
        "models/toy/work/*/figures/*",
    ),
    "promote": ("models/toy/versions/*/*.*", "models/toy/versions/*/figures/*"),
    "champion": (
        "models/toy/versions/*/*.*",
        "models/toy/versions/*/figures/*",
        "models/toy/registry.json",
    ),
}


def _read_files(home: Path, step: str) -> Iterator[Path]:
    for pattern in READ[step]:
        found = [path for path in sorted(home.glob(pattern)) if path.is_file()]
        assert found, pattern
        yield from found


@pytest.mark.parametrize("step", READ)
def test_a_changed_byte_of_any_file_is_refused_by_name(
    workflow: Workflow, volume: Store, step: str
) -> None:
    workflow.run(until=step)
    for path in _read_files(volume.home, step):
        data = path.read_bytes()
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        with pytest.raises((SignatureInvalid, ArtifactCorrupt)) as caught:
            workflow.steps[step]()
        # A signature is named by what it signs.
        name = path.name.split(".json.")[0].removesuffix(".sig")
        assert name in f"{caught.value.message} {caught.value.path}", path
        path.write_bytes(data)
    workflow.steps[step]()


def test_a_foreign_file_in_the_work_folder_is_refused_by_name(
    workflow: Workflow, volume: Store
) -> None:
    workflow.run(until="decide")
    (folder,) = volume.work.iterdir()
    for name in ("note.txt", "figures/other.png", "verdict.json"):
        (folder / name).write_bytes(b"x")
        with pytest.raises(ArtifactCorrupt, match=name):
            workflow.steps["decide"]()
        (folder / name).unlink()
    assert not volume.versions.exists()


def _better(evaluation: Evaluation) -> Evaluation:
    """The evaluation with the metrics of a perfect model."""
    side = evaluation.challenger
    perfect = dict.fromkeys(side.holdout.metrics, 1.0) | {"brier": 0.0, "calibration_error": 0.0}
    holdout = msgspec.structs.replace(
        side.holdout,
        metrics=perfect,
        probability=tuple(float(label) for label in side.holdout.positive),
        sensitivity_lower_bound=1.0,
    )
    return msgspec.structs.replace(
        evaluation, challenger=msgspec.structs.replace(side, holdout=holdout)
    )


@pytest.fixture
def flipped(
    workflow: Workflow, volume: Store, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Evaluation]:
    """The work folder and evaluation of a model that was fitted to 30 % flipped labels."""
    workflow.run(until="export")
    from bc_pipeline.training import challenger

    fit_and_export = challenger.fit_and_export

    def fit_flipped(workspace: Any, candidate: str, train: Any) -> Any:
        flip = np.random.default_rng(5).random(len(train.positive)) < 0.3
        positive = np.where(flip, 1 - train.positive, train.positive).astype(np.int8)
        return fit_and_export(workspace, candidate, type(train)(train.keys, train.values, positive))

    with monkeypatch.context() as patch:
        patch.setattr(challenger, "fit_and_export", fit_flipped)
        workflow.results["export"] = workflow.steps["export"]()
    workflow.results["evaluate"] = workflow.steps["evaluate"]()
    (folder,) = volume.work.iterdir()
    data = (folder / signed_bundle.EVALUATION).read_bytes()
    return folder, msgspec.json.decode(data, type=Evaluation)


def test_rewritten_numbers_are_not_the_signed_ones(
    workflow: Workflow, volume: Store, flipped: tuple[Path, Evaluation]
) -> None:
    folder, evaluation = flipped
    path = folder / signed_bundle.EVALUATION
    path.write_bytes(encode_document(_better(evaluation)))
    with pytest.raises(ArtifactCorrupt, match=r"evaluation\.json differs"):
        workflow.steps["decide"]()
    # Nor does it help to rewrite the list of digests, which is signed.
    evidence = folder / work_folder.EVIDENCE
    listed = json.loads(evidence.read_bytes())
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    listed["files"][path.name] = {"sha256": digest, "size": len(data)}
    evidence.write_text(json.dumps(listed))
    with pytest.raises(SignatureInvalid, match=r"evidence\.json was changed"):
        workflow.steps["decide"]()
    assert not volume.versions.exists()
    assert read_registry(volume).production is None


def test_signed_numbers_that_the_model_does_not_give_are_refused(
    workflow: Workflow, volume: Store, flipped: tuple[Path, Evaluation]
) -> None:
    folder, evaluation = flipped
    settings = Settings()
    exported = work_folder.open_challenger(volume, folder.name, settings.verify_key)
    evaluated = work_folder.open_evaluated(volume, folder.name, settings.verify_key)
    added = evaluated.manifest.files.keys() - exported.manifest.files.keys()
    files = {name: evaluated.read_stored(name) for name in added}
    files[signed_bundle.EVALUATION] = encode_document(_better(evaluation))
    work_folder.write_evidence(volume, exported, files)
    with pytest.raises(EvidenceMismatch) as caught:
        workflow.steps["decide"]()
    assert "challenger.holdout.metrics.f1" in caught.value.message
    assert not volume.versions.exists()
    # Evaluated again, it is judged by what it is.
    workflow.steps["evaluate"]()
    workflow.results["decide"] = workflow.steps["decide"]()


def test_an_evaluation_against_another_champion_is_refused(
    workflow: Workflow, volume: Store
) -> None:
    workflow.run(until="decide")
    settings = Settings()
    (folder,) = volume.work.iterdir()
    exported = work_folder.open_challenger(volume, folder.name, settings.verify_key)
    evaluated = work_folder.open_evaluated(volume, folder.name, settings.verify_key)
    evaluation = evaluated.read_document(signed_bundle.EVALUATION, Evaluation)
    forged = msgspec.structs.replace(evaluation, champion_generation=7)
    added = evaluated.manifest.files.keys() - exported.manifest.files.keys()
    files = {name: evaluated.read_stored(name) for name in added}
    files[signed_bundle.EVALUATION] = encode_document(forged)
    work_folder.write_evidence(volume, exported, files)
    with pytest.raises(EvidenceMismatch, match="generation 7"):
        workflow.steps["decide"]()
