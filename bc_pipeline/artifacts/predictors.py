"""Runs model versions from verified bytes, without the libraries that trained them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_pipeline.artifacts.coefficients import COEFFICIENTS_FORMAT, Coefficients
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.signed_bundle import COEFFICIENTS, MODEL, VersionFiles
from bc_pipeline.artifacts.similar_rows import similar_order
from bc_pipeline.errors import ModelError, SchemaMismatch

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUT = "features"
OUTPUT = "probability"
# A graph with this operator runs faster where similar rows follow each other: `similar_rows`.
TREES = b"TreeEnsemble"
# For fewer rows, to order them takes longer than it saves.
_ORDERED_ROWS = 500
# Rows on which coefficients are compared with the graph, and the largest allowed difference.
_PROBES = 65
_TOLERANCE = 1e-12


class Predictor:
    """A model version in ONNX Runtime, on the CPU.

    Parameters
    ----------
    coefficients : Coefficients or None
        The same model, where it is a logistic regression; ONNX Runtime then runs only to check it.
    has_trees : bool
        Whether the model is an ensemble of trees.

    Attributes
    ----------
    manifest : Manifest
    coefficients : Coefficients or None

    Notes
    -----
    `positive` may be called by several threads at once, `positive_one` by one. The
    probability of a row in different batches differs by rounding only, less than 1e-12.
    """

    def __init__(
        self,
        manifest: Manifest,
        session: InferenceSession,
        coefficients: Coefficients | None = None,
        *,
        has_trees: bool = False,
    ) -> None:
        self.manifest = manifest
        self._session = session
        self.coefficients = coefficients
        self._has_trees = has_trees
        self._width = len(manifest.feature_schema.features)
        self._pack = struct.Struct(f"<{self._width}d").pack
        # Buffers from which ONNX Runtime reads a single row and to which it writes its
        # probability: making arrays for every row takes as long as a small model.
        row, answer = np.zeros((1, self._width)), np.zeros(1)
        self._row, self._answer = row.data.cast("B"), answer
        self._binding = session.io_binding()
        for bind, name, array in (
            (self._binding.bind_input, INPUT, row),
            (self._binding.bind_output, OUTPUT, answer),
        ):
            bind(name, "cpu", 0, np.float64, array.shape, array.ctypes.data)

    def positive(self, values: np.ndarray) -> np.ndarray:
        """Probability of the positive class.

        Parameters
        ----------
        values : array of float64, shape (n, n_features)
            In schema order, finite.

        Returns
        -------
        array of float64, shape (n,)

        Raises
        ------
        SchemaMismatch
            Where the shape is another one or a value is not finite.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self._width:
            raise SchemaMismatch(
                f"The model takes rows of {self._width} values; the array's shape is "
                f"{values.shape}."
            )
        if not np.isfinite(values).all():
            raise SchemaMismatch("The model takes finite values only.")
        if not len(values):
            return np.empty(0)
        if self.coefficients is not None:
            return self.coefficients.positive_each(values)
        if self._has_trees and len(values) >= _ORDERED_ROWS:
            order = similar_order(values)
            answer = np.empty(len(values))
            answer[order] = self._run(values[order])
            return answer
        return self._run(values)

    def _run(self, values: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(values)
        answer: np.ndarray = self._session.run([OUTPUT], {INPUT: rows})[0]
        return answer

    def positive_one(self, values: Sequence[float]) -> float:
        """Probability of the positive class of one row.

        Parameters
        ----------
        values : sequence of float
            As many as there are features, in schema order, finite.
        """
        if self.coefficients is not None:
            return self.coefficients.positive(values)
        self._row[:] = self._pack(*values)
        # The probability of the row before must not remain if the runtime writes none.
        self._answer[0] = np.nan
        self._session.run_with_iobinding(self._binding)
        return float(self._answer.item())


def load_predictor(files: VersionFiles, threads: int = 1) -> Predictor:
    """Load the model of a version: ``model.onnx``, and its coefficients where it has some.

    Parameters
    ----------
    files : VersionFiles
    threads : int
        Used by one call.

    Raises
    ------
    ArtifactCorrupt, DecryptionFailed
    ModelError
        Where ONNX Runtime does not load the graph, the graph does not fit the manifest, or
        the coefficients do not agree with it.
    """
    manifest = files.manifest
    graph = files.read(MODEL)
    session = make_session(graph, threads)
    require_fit(session, manifest)
    coefficients = None
    if COEFFICIENTS in manifest.files:
        coefficients = files.read_document(COEFFICIENTS, Coefficients, COEFFICIENTS_FORMAT)
        require_agreement(session, coefficients, manifest)
    return Predictor(manifest, session, coefficients, has_trees=TREES in graph)


def require_fit(session: InferenceSession, manifest: Manifest) -> None:
    """Check that a graph takes the manifest's features and returns one probability.

    Raises
    ------
    ModelError
    """
    width = len(manifest.feature_schema.features)
    nodes = [
        (node.name, node.type, *node.shape[1:])
        for node in (*session.get_inputs(), *session.get_outputs())
    ]
    if nodes != [(INPUT, "tensor(double)", width), (OUTPUT, "tensor(double)")]:
        raise ModelError(
            f"The graph of {manifest.version} has the inputs and outputs {nodes}; its manifest "
            f"has {width} features, and the output must be one probability, in double."
        )


def require_agreement(
    session: InferenceSession, coefficients: Coefficients, manifest: Manifest
) -> None:
    """Check that coefficients give the graph's probabilities across the training range.

    Raises
    ------
    ModelError
    """
    names = manifest.feature_schema.names
    if coefficients.fits(len(names)):
        low, high = np.array([manifest.training_range[name] for name in names]).T
        rows = low + np.linspace(0.0, 1.0, _PROBES)[:, None] * (high - low)
        expected = session.run([OUTPUT], {INPUT: rows})[0]
        difference = expected - [coefficients.positive(row) for row in rows.tolist()]
        if np.all(np.abs(difference) <= _TOLERANCE):
            return
    raise ModelError(
        f"{COEFFICIENTS} of {manifest.version} does not agree with {MODEL}.",
        "Export the model again.",
    )


def make_session(graph: bytes, threads: int = 1) -> InferenceSession:
    """Load a graph in ONNX Runtime.

    Raises
    ------
    ModelError
        Where ONNX Runtime cannot run the bytes.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads sleep instead of spinning: other processes share the processors.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # ONNX Runtime's errors share no base class of their own.
    try:
        session: Any = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(f"ONNX Runtime does not take the graph: {error}") from error
    return session
