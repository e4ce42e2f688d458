"""A volume with quickly fitted versions, for what runs outside of pytest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bc_pipeline.artifacts.export import export_onnx
from bc_pipeline.artifacts.model_files import model_files
from bc_pipeline.artifacts.signed_bundle import COEFFICIENTS
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings
from tests.conftest import Fitted, Releases


def make_releases(home: Path, versions: int) -> tuple[Releases, list[list[float]]]:
    """Publish ``v0``, ``v1`` ... and promote the first; returns rows to ask for as well."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    problem = get_problem("wdbc")
    reference = problem.load_reference()
    values = reference.values
    ranges = np.column_stack([values.min(axis=0), values.max(axis=0)])
    releases = Releases(problem, Settings(home=home), ranges)
    for number in range(versions):
        regularisation = 0.1 / (1 + number)
        model = LogisticRegression(C=regularisation, max_iter=2000)
        estimator = make_pipeline(StandardScaler(), model)
        estimator.fit(values, problem.labels.to_positive(reference.codes))
        graph = export_onnx(estimator, values.shape[1])
        probability = estimator.predict_proba(values)[:, 1]
        coefficients = model_files(estimator, graph)[COEFFICIENTS]
        releases.publish(
            f"v{number}", Fitted(regularisation, estimator, graph, probability, coefficients)
        )
    releases.promote("v0")
    rows: list[list[float]] = values.tolist()
    return releases, rows
