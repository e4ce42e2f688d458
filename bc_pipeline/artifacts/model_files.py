"""The files of a version that contain the model, and the pickled estimator among them."""

from __future__ import annotations

import io
from typing import Any

from bc_pipeline.artifacts.export import export_coefficients
from bc_pipeline.artifacts.files import encode_document
from bc_pipeline.artifacts.signed_bundle import COEFFICIENTS, ESTIMATOR, MODEL, VersionFiles


def model_files(estimator: Any, graph: bytes) -> dict[str, bytes]:
    """The files of a version that contain the model, by name.

    Parameters
    ----------
    estimator : scikit-learn classifier
    graph : bytes
        As returned by `export_onnx`.
    """
    files = {MODEL: graph, ESTIMATOR: dump_estimator(estimator)}
    coefficients = export_coefficients(estimator)
    if coefficients is not None:
        files[COEFFICIENTS] = encode_document(coefficients)
    return files


def dump_estimator(estimator: Any) -> bytes:
    """The bytes of ``model.joblib``; the same estimator gives the same bytes."""
    import joblib

    stream = io.BytesIO()
    joblib.dump(estimator, stream, compress=0, protocol=5)
    return stream.getvalue()


def load_estimator(files: VersionFiles) -> Any:
    """Unpickle a version's estimator, in the pipeline only.

    The signature covers the bytes, but unpickling runs code: everything else that reads the
    volume uses the graph.

    Raises
    ------
    ArtifactCorrupt
    """
    import joblib

    return joblib.load(io.BytesIO(files.read(ESTIMATOR)))
