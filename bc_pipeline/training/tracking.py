"""Runs, models and aliases in MLflow: the only file that imports mlflow."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version as library_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.model_files import load_estimator
from bc_pipeline.artifacts.signed_bundle import CARD
from bc_pipeline.training.mlflow_tags import (
    ROLE_TAG,
    VERDICT_TAG,
    VERSION_TAG,
    TrackedVersion,
    candidate_params,
    finite_metrics,
)
from bc_pipeline.training.results import CandidateDocument

if TYPE_CHECKING:
    from mlflow import MlflowClient as MlflowClient
    from mlflow.entities import LoggedModel

# Set last on a run; a run without it was interrupted.
COMPLETE_TAG = "bc.complete"
NOTE_TAG = "mlflow.note.content"
# Decides which pages the web UI shows of an experiment: training runs, not traces of GenAI.
KIND_TAG = "mlflow.experimentKind"
TRAINING_KIND = "custom_model_development"
ENCRYPTED_TAG = "bc.encrypted"
_PAGE = 1000
_DIGEST_LENGTH = 36  # MLflow's limit
_MODEL_LIBRARIES = ("numpy", "scikit-learn", "scipy")


def connect(tracking_uri: str) -> MlflowClient:
    """A client of MLflow's server, or of its database."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri, registry_uri=tracking_uri)


class MlflowTracker:
    """Reads and writes the versions of a problem in MLflow.

    Parameters
    ----------
    name : str
        Of the problem, of the experiment and of the registered model, which exists.
    client : MlflowClient
    note : str
        Description of the experiment.
    """

    def __init__(self, name: str, client: MlflowClient, note: str) -> None:
        self.name = name
        self.client = client
        self.experiment = self._experiment({KIND_TAG: TRAINING_KIND, NOTE_TAG: note})

    # Reading ------------------------------------------------------------------------------

    def _experiment(self, tags: Mapping[str, str]) -> str:
        """The id of the experiment; tags that it has stay, since people may have set them."""
        experiment = self.client.get_experiment_by_name(self.name)
        if experiment is None:
            return str(self.client.create_experiment(self.name, tags=dict(tags)))
        if experiment.lifecycle_stage == "deleted":
            self.client.restore_experiment(experiment.experiment_id)
        for tag in tags.keys() - experiment.tags.keys():
            self.client.set_experiment_tag(experiment.experiment_id, tag, tags[tag])
        return str(experiment.experiment_id)

    def is_reachable(self) -> bool:
        """Whether MLflow answers a simple request."""
        try:
            self.client.get_experiment(self.experiment)
        except Exception:  # any exception of its database or transport
            return False
        return True

    def complete_versions(self) -> dict[str, str]:
        """Completely written versions, each with its verdict."""
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

    def registered_versions(self) -> dict[str, str]:
        """MLflow's number for each registered version."""
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

    def set_alias(self, alias: str, number: str | None) -> None:
        """Set an alias to a registered version, or remove it."""
        current = self.client.get_registered_model(self.name).aliases.get(alias)
        if number is None:
            if current is not None:
                self.client.delete_registered_model_alias(self.name, alias)
        elif str(current) != number:
            self.client.set_registered_model_alias(self.name, alias, number)

    # Writing ------------------------------------------------------------------------------

    def write_version(self, tracked: TrackedVersion) -> None:
        """Write a version as a run with one child run per candidate.

        A version that passed its gate is registered too. Remains of an interrupted attempt
        are deleted first.
        """
        documents = tracked.documents
        self._delete(tracked.version)
        run_id = self.client.create_run(
            self.experiment,
            run_name=tracked.version,
            tags=tracked.tags
            | {
                ROLE_TAG: "retrain",
                "mlflow.source.name": "bc-pipeline",
                NOTE_TAG: documents.get(CARD, b"").decode(),
            },
        ).info.run_id
        model_id = self._log_model(tracked, run_id)
        self.client.log_inputs(run_id, [_dataset(tracked.files.manifest)])
        self._log(run_id, tracked.params, tracked.metrics, model_id)
        with tempfile.TemporaryDirectory() as folder:
            for name, data in documents.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self.client.log_artifacts(run_id, folder)
        for candidate in tracked.candidates:
            self._log_candidate(tracked, candidate, run_id)
        if tracked.verdict.passed:
            self.client.create_model_version(
                self.name,
                source=f"models:/{model_id}",
                run_id=run_id,
                model_id=model_id,
                tags=tracked.listed_figures | tracked.tags,
                description=tracked.description,
                await_creation_for=0,
            )
        self.client.set_terminated(run_id, "FINISHED")
        self.client.set_tag(run_id, COMPLETE_TAG, "true")

    def _delete(self, version: str) -> None:
        """Delete everything of a version."""
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

    def _log_candidate(
        self, tracked: TrackedVersion, candidate: CandidateDocument, parent: str
    ) -> None:
        chosen = candidate.recipe == tracked.files.manifest.recipe.recipe
        run_id = self.client.create_run(
            self.experiment,
            run_name=candidate.candidate,
            tags={
                "mlflow.parentRunId": parent,
                "mlflow.source.name": "bc-pipeline",
                ROLE_TAG: "candidate",
                VERSION_TAG: tracked.version,
                "bc.dataset": candidate.dataset,
                "bc.chosen": str(chosen).lower(),
            },
        ).info.run_id
        self._log(run_id, candidate_params(candidate), finite_metrics("cv", candidate.metrics))
        self.client.set_terminated(run_id, "FINISHED")

    def _log_model(self, tracked: TrackedVersion, run_id: str) -> str:
        """Make MLflow's entry of the model, with the fitted estimator, and return its id.

        The entry of a version that is encrypted on the volume has no estimator, so that
        MLflow holds no plain copy.
        """
        from mlflow.entities import LoggedModelOutput

        encrypted = tracked.files.encrypted
        model = self.client.create_logged_model(
            self.experiment,
            name=tracked.files.manifest.recipe.candidate,
            source_run_id=run_id,
            tags=tracked.tags | {ENCRYPTED_TAG: str(encrypted).lower()},
            params=tracked.params,
        )
        if not encrypted:
            self._store_estimator(tracked, run_id, model)
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        return str(model.model_id)

    def _store_estimator(self, tracked: TrackedVersion, run_id: str, model: LoggedModel) -> None:
        """Store the fitted estimator in skops format, without pickle."""
        import mlflow.sklearn
        from mlflow.models import Model
        from skops.io import dumps, get_untrusted_types

        manifest = tracked.files.manifest
        estimator = load_estimator(tracked.files)
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
                # `predict` would call at .5 instead of the version's threshold.
                pyfunc_predict_fn="predict_proba",
                metadata={"version": tracked.version, "threshold": manifest.threshold},
                # Given, because MLflow would start a process to infer them.
                pip_requirements=_requirements(manifest),
                # All types are trusted: the signature of the estimator was verified.
                skops_trusted_types=get_untrusted_types(data=dumps(estimator)),
            )
            self.client.log_model_artifacts(model.model_id, path)


def _pages(search: Callable[[str | None], Any]) -> list[Any]:
    """All results of a paged search."""
    results: list[Any] = []
    token: str | None = None
    while True:
        page = search(token)
        results += page
        token = page.token
        if not token:
            return results


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
    """Inputs are the features by name, outputs the probabilities of both classes."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.double, name) for name in manifest.feature_schema.names]),
        outputs=Schema([TensorSpec(np.dtype(np.float64), (-1, 2))]),
    )


def _requirements(manifest: Manifest) -> list[str]:
    """Versions of the libraries that load the model, as when it was fitted."""
    pins = {
        name: manifest.libraries[name] for name in _MODEL_LIBRARIES if name in manifest.libraries
    }
    pins["skops"] = library_version("skops")
    return [f"{name}=={version}" for name, version in sorted(pins.items())]
