"""Run a model version: its ONNX graph, from verified bytes, without the training stack."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bc_pipeline.artifacts.logistic import Logistic, read_logistic
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.sealed import MODEL, VersionFiles
from bc_pipeline.errors import ModelError, SchemaMismatch

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUT = "features"
OUTPUT = "probability"
# Rows that a model is asked about in two ways, and how far apart the answers may be.
_PROBES = 65
_AGREEMENT = 1e-12


class Predictor(Protocol):
    """What answers for a model version."""

    @property
    def manifest(self) -> Manifest: ...

    def positive(self, values: np.ndarray) -> np.ndarray:
        """Probability of the positive class, shape (n,), of values of shape (n, k)."""
        ...

    def positive_one(self, values: Sequence[float]) -> float:
        """The same of one row, for the thread that answers requests."""
        ...

    def calls(self, probability: np.ndarray) -> np.ndarray:
        """Whether each probability is called positive, bool, shape (n,)."""
        ...


class OnnxPredictor:
    """A model version in ONNX Runtime, on the CPU.

    Parameters
    ----------
    logistic : Logistic or None
        The same model for single rows, where it is that simple.

    Attributes
    ----------
    manifest : Manifest

    Notes
    -----
    `positive` may be called from several threads at once, `positive_one` from one. A row's
    probability depends on the rows beside it by rounding only, less than 1e-12.
    """

    def __init__(
        self, manifest: Manifest, session: InferenceSession, logistic: Logistic | None = None
    ) -> None:
        self.manifest = manifest
        self._session = session
        self._logistic = logistic
        self._width = len(manifest.feature_schema.features)
        self._pack = struct.Struct(f"<{self._width}d").pack
        # ONNX Runtime reads one row and writes one probability here: making and checking
        # arrays for a single row costs as much as a small model.
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
        values = np.ascontiguousarray(values, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self._width:
            raise SchemaMismatch(
                f"The model takes rows of {self._width} values; the array's shape is "
                f"{values.shape}."
            )
        if not np.isfinite(values).all():
            raise SchemaMismatch("The model takes finite values only.")
        if not len(values):
            return np.empty(0)
        answer: np.ndarray = self._session.run([OUTPUT], {INPUT: values})[0]
        return answer

    def positive_one(self, values: Sequence[float]) -> float:
        """Probability of the positive class of one row.

        Parameters
        ----------
        values : sequence of float
            As many as there are features, in schema order, finite.
        """
        if self._logistic is not None:
            return self._logistic.positive(values)
        self._row[:] = self._pack(*values)
        # So that the answer to another row can never be taken for this one's.
        self._answer[0] = np.nan
        self._session.run_with_iobinding(self._binding)
        return float(self._answer.item())

    def calls(self, probability: np.ndarray) -> np.ndarray:
        """Whether each probability lies above the version's threshold.

        Parameters
        ----------
        probability : array of float64, shape (n,)

        Returns
        -------
        array of bool, shape (n,)
        """
        called: np.ndarray = np.asarray(probability) > self.manifest.threshold
        return called


def load_predictor(files: VersionFiles, threads: int = 1) -> OnnxPredictor:
    """Load the model of a version; ``model.onnx`` is read once and verified.

    Parameters
    ----------
    files : VersionFiles
    threads : int
        For the work inside one call.

    Raises
    ------
    ArtifactCorrupt
    ModelError
        As of `predictor_of`.
    """
    return predictor_of(files.manifest, files.read(MODEL), threads)


def predictor_of(manifest: Manifest, graph: bytes, threads: int = 1) -> OnnxPredictor:
    """Run a graph under the manifest that describes it.

    Raises
    ------
    ModelError
        Where ONNX Runtime does not take the graph, or the graph does not fit the manifest.
    """
    session = make_session(graph, threads)
    width = len(manifest.feature_schema.features)
    found = [
        (node.name, node.type, *node.shape[1:])
        for node in (*session.get_inputs(), *session.get_outputs())
    ]
    if found != [(INPUT, "tensor(double)", width), (OUTPUT, "tensor(double)")]:
        raise ModelError(
            f"The graph of {manifest.version} has the ends {found}; its manifest promises "
            f"{width} features and one probability, in double."
        )
    return OnnxPredictor(manifest, session, _logistic_of(manifest, graph, session))


def _logistic_of(manifest: Manifest, graph: bytes, session: InferenceSession) -> Logistic | None:
    """The logistic regression that the graph is, if it is one.

    What was read must answer as the runtime does, from end to end of the training range.
    """
    names = manifest.feature_schema.names
    logistic = read_logistic(graph, INPUT, len(names))
    if logistic is None:
        return None
    low, high = np.array([manifest.training_range[name] for name in names]).T
    rows = low + np.linspace(0.0, 1.0, _PROBES)[:, None] * (high - low)
    apart = session.run([OUTPUT], {INPUT: rows})[0] - [
        logistic.positive(row) for row in rows.tolist()
    ]
    return logistic if np.all(np.abs(apart) <= _AGREEMENT) else None


def make_session(graph: bytes, threads: int = 1) -> InferenceSession:
    """Start ONNX Runtime on the bytes of a graph.

    Raises
    ------
    ModelError
        Where the bytes are not a graph that it can run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait must sleep: the service and its neighbours share the processors.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # ONNX Runtime's errors share no base class of their own.
    try:
        session: Any = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(f"ONNX Runtime does not take the graph: {error}") from error
    return session
