"""Smoke test, gate and publication of a challenger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bc_pipeline.artifacts import signed_bundle, training_log, versions
from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.artifacts.files import encode_document
from bc_pipeline.artifacts.model_files import load_estimator
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.promotion import gate
from bc_pipeline.promotion.smoke import smoke_test
from bc_pipeline.workspace import Run, Workspace

if TYPE_CHECKING:
    import numpy as np


def judge(
    workspace: Workspace, challenger: VersionFiles, golden_values: np.ndarray, run: Run
) -> None:
    """Judge an evaluated challenger, and publish it with its verdict, passed or not.

    Parameters
    ----------
    challenger : VersionFiles
        Of `work_folder.open_evaluated`.
    golden_values : array of float64, shape (m, n_features)
        Rows for the smoke test, which compares the service with the fitted estimator.
    """
    settings, policy = workspace.settings, workspace.problem.gate
    evaluation = challenger.read_document(signed_bundle.EVALUATION, Evaluation)
    smoke = smoke_test(
        challenger.folder,
        settings.verify_key,
        golden_values=golden_values,
        golden_probability=load_estimator(challenger).predict_proba(golden_values)[:, 1],
        latency_ms=policy.smoke_latency_ms,
        parity_bound=policy.parity_bound,
        artifact_key=settings.artifact_key_file,
    )
    verdict = gate.decide(
        policy, workspace.problem.labels, evaluation, smoke, looks_back=run.looks_back
    )
    metrics = evaluation.challenger.holdout.metrics
    manifest = msgspec.structs.replace(challenger.manifest, metrics=metrics)
    # The bytes that were verified are published, whatever stands in the folder by now.
    contents = {name: challenger.read_stored(name) for name in challenger.manifest.files}
    contents[signed_bundle.VERDICT] = encode_document(verdict)
    versions.publish(workspace.store, manifest, challenger.folder, settings.signing_key, contents)
    training_log.append_line(
        workspace.store,
        "decision",
        run=run.run_id,
        version=verdict.challenger,
        champion=verdict.champion,
        kind=verdict.kind,
        passed=verdict.passed,
        reasons="; ".join(verdict.reasons) or "none",
    )
