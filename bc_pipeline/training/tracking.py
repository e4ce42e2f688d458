"""Runs, models and aliases in MLflow; the only file that imports mlflow."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version as library_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bc_pipeline.artifacts.export import load_estimator
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.versions import CARD
from bc_pipeline.training.facts import (
    ROLE_TAG,
    VERDICT_TAG,
    VERSION_TAG,
    VersionFacts,
    candidate_metrics,
    candidate_params,
)
from bc_pipeline.training.results import CandidateRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

# Set last on a run: without it, what stands in MLflow is the rest of a broken attempt.
COMPLETE_TAG = "bc.complete"
ENCRYPTED_TAG = "bc.encrypted"
_PAGE = 1000
_DIGEST_LENGTH = 36  # MLflow's limit
_LOADING = ("numpy", "scikit-learn", "scipy")


class Tracker:
    """What MLflow knows of a problem, and the writing of what it lacks.

    Parameters
    ----------
    name, title : str
        Of the problem: `name` is that of the experiment and of the registered model.
    tracking_uri : str
        MLflow's server, or its database.
    """

    def __init__(self, name: str, title: str, tracking_uri: str) -> None:
        from mlflow import MlflowClient

        self.name = name
        self.client: MlflowClient = MlflowClient(tracking_uri, registry_uri=tracking_uri)
        self.experiment = self._experiment()
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name, description=title)

    # What MLflow knows --------------------------------------------------------------------

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.name)
        if found is None:
            return str(self.client.create_experiment(self.name))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def answers(self) -> bool:
        """Whether MLflow is there at all."""
        try:
            self.client.get_experiment(self.experiment)
        except Exception:  # whatever its database or transport raises
            return False
        return True

    def complete(self) -> dict[str, str]:
        """Versions that were written to the end, each with its verdict."""
        return {
            run.data.tags[VERSION_TAG]: run.data.tags[VERDICT_TAG]
            for run in self._runs(f"tags.`{COMPLETE_TAG}` = 'true'")
        }

    def _runs(self, condition: str) -> list[Any]:
        return _pages(
            lambda token: self.client.search_runs(
                [self.experiment], condition, max_results=_PAGE, page_token=token
            )
        )

    def registered(self) -> dict[str, str]:
        """MLflow's number of each registered version."""
        return {
            entry.tags[VERSION_TAG]: str(entry.version)
            for entry in self._model_versions()
            if VERSION_TAG in entry.tags
        }

    def _model_versions(self) -> list[Any]:
        return _pages(
            lambda token: self.client.search_model_versions(
                f"name = '{self.name}'", max_results=_PAGE, page_token=token
            )
        )

    def point(self, alias: str, number: str | None) -> None:
        """Let an alias name a registered version, or none."""
        current = self.client.get_registered_model(self.name).aliases.get(alias)
        if number is None:
            if current is not None:
                self.client.delete_registered_model_alias(self.name, alias)
        elif str(current) != number:
            self.client.set_registered_model_alias(self.name, alias, number)

    # Writing one version ------------------------------------------------------------------

    def write(self, facts: VersionFacts) -> None:
        """Write a version as a run with one child run per candidate.

        A version that passed its gate is registered too. What an earlier attempt left of
        it is deleted first.
        """
        documents = facts.documents
        self._delete(facts.version)
        run_id = self.client.create_run(
            self.experiment,
            run_name=facts.version,
            tags=facts.tags
            | {
                ROLE_TAG: "retrain",
                "mlflow.source.name": "bc-pipeline",
                "mlflow.note.content": documents.get(CARD, b"").decode(),
            },
        ).info.run_id
        model_id = self._log_model(facts, run_id)
        self.client.log_inputs(run_id, [_dataset(facts.files.manifest)])
        self._log(run_id, facts.params, facts.metrics, model_id)
        with tempfile.TemporaryDirectory() as folder:
            for name, data in documents.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self.client.log_artifacts(run_id, folder)
        for record in facts.candidates:
            self._log_candidate(facts, record, run_id)
        if facts.verdict.passed:
            self.client.create_model_version(
                self.name,
                source=f"models:/{model_id}",
                run_id=run_id,
                model_id=model_id,
                tags=facts.tags,
                description=facts.description,
                await_creation_for=0,
            )
        self.client.set_terminated(run_id, "FINISHED")
        self.client.set_tag(run_id, COMPLETE_TAG, "true")

    def _delete(self, version: str) -> None:
        """Delete what an earlier attempt left of a version."""
        for entry in self._model_versions():
            if entry.tags.get(VERSION_TAG) == version:
                self.client.delete_model_version(self.name, entry.version)
        for model in _pages(
            lambda token: self.client.search_logged_models(
                [self.experiment], f"tags.`{VERSION_TAG}` = '{version}'", page_token=token
            )
        ):
            self.client.delete_logged_model(model.model_id)
        for run in self._runs(f"tags.`{VERSION_TAG}` = '{version}'"):
            self.client.delete_run(run.info.run_id)

    def _log(
        self,
        run_id: str,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        model_id: str | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param

        at = int(time.time() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[
                Metric(name, value, at, 0, model_id=model_id, run_id=run_id)
                for name, value in metrics.items()
            ],
            params=[Param(name, value) for name, value in params.items()],
        )

    def _log_candidate(self, facts: VersionFacts, record: CandidateRecord, parent: str) -> None:
        chosen = record.recipe == facts.files.manifest.recipe.recipe
        run_id = self.client.create_run(
            self.experiment,
            run_name=record.candidate,
            tags={
                "mlflow.parentRunId": parent,
                "mlflow.source.name": "bc-pipeline",
                ROLE_TAG: "candidate",
                VERSION_TAG: facts.version,
                "bc.dataset": record.dataset,
                "bc.chosen": str(chosen).lower(),
            },
        ).info.run_id
        self._log(run_id, candidate_params(record), candidate_metrics(record))
        self.client.set_terminated(run_id, "FINISHED")

    def _log_model(self, facts: VersionFacts, run_id: str) -> str:
        """Make MLflow's entry of the model, with the fitted estimator, and give its id.

        A version that stands encrypted on the volume leaves no plain copy here: its entry
        says what it is and where, and holds nothing to load.
        """
        from mlflow.entities import LoggedModelOutput

        encrypted = facts.files.encrypted
        model = self.client.create_logged_model(
            self.experiment,
            name=facts.files.manifest.recipe.candidate,
            source_run_id=run_id,
            tags=facts.tags | {ENCRYPTED_TAG: str(encrypted).lower()},
            params=facts.params,
        )
        if not encrypted:
            self._store_estimator(facts, run_id, model)
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        return str(model.model_id)

    def _store_estimator(self, facts: VersionFacts, run_id: str, model: LoggedModel) -> None:
        """Store the fitted estimator, without pickle."""
        import mlflow.sklearn
        from mlflow.models import Model
        from skops.io import dumps, get_untrusted_types

        manifest = facts.files.manifest
        estimator = load_estimator(facts.files)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "model"))
            mlflow.sklearn.save_model(
                estimator,
                path,
                mlflow_model=Model(
                    artifact_path=model.artifact_location,
                    model_uuid=model.model_id,
                    model_id=model.model_id,
                    run_id=run_id,
                ),
                signature=_signature(manifest),
                # `predict` would call at .5; ours is a probability and a threshold.
                pyfunc_predict_fn="predict_proba",
                metadata={"version": facts.version, "threshold": manifest.threshold},
                # Named, because MLflow would load the model in a new process to infer them.
                pip_requirements=_requirements(manifest),
                # The estimator's bytes bear the signature of the side that fitted it.
                skops_trusted_types=get_untrusted_types(data=dumps(estimator)),
            )
            self.client.log_model_artifacts(model.model_id, path)


def _pages(search: Callable[[str | None], Any]) -> list[Any]:
    """Everything that a paged search finds."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = search(token)
        found += page
        token = page.token
        if not token:
            return found


def _dataset(manifest: Manifest) -> Any:
    """The dataset as an input of a run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    lineage = manifest.lineage
    columns = [
        {"name": name, "type": "double", "required": True} for name in manifest.feature_schema.names
    ]
    dataset = Dataset(
        name=manifest.problem,
        digest=lineage.dataset[:_DIGEST_LENGTH],
        source_type="volume",
        source=json.dumps({"dataset": lineage.dataset, "batches": len(lineage.batches)}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps(
            {"train_rows": lineage.train_rows, "holdout_rows": lineage.holdout_rows}
        ),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _signature(manifest: Manifest) -> Any:
    """The features by name in; probabilities of both classes out."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.double, name) for name in manifest.feature_schema.names]),
        outputs=Schema([TensorSpec(np.dtype(np.float64), (-1, 2))]),
    )


def _requirements(manifest: Manifest) -> list[str]:
    """Pins of what loads the model, as they were when it was fitted."""
    pins = {name: manifest.libraries[name] for name in _LOADING if name in manifest.libraries}
    pins["skops"] = library_version("skops")
    return [f"{name}=={version}" for name, version in sorted(pins.items())]
