"""Answers of the Open Inference Protocol V2: tensors, in JSON or as binary data."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from bc_pipeline import __version__
from bc_pipeline.serving.inference.request import (
    INPUT,
    LENGTH_HEADER,
    OUTPUTS,
    InferenceRequest,
)
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.predict import Prediction

SERVER = "bc-pipeline"
# The protocol's name for a model in the ONNX format.
PLATFORM = "onnx_onnxv1"
BINARY = "application/octet-stream"
JSON = "application/json"


class ServerLive(msgspec.Struct):
    live: bool = True


class ServerReady(msgspec.Struct):
    ready: bool = True


class ModelReady(msgspec.Struct):
    name: str
    ready: bool = True


class ServerMetadata(msgspec.Struct):
    name: str = SERVER
    version: str = __version__
    extensions: Sequence[str] = ("binary_tensor_data",)


class TensorMetadata(msgspec.Struct):
    """A tensor; a dimension of -1 may have any size."""

    name: str
    datatype: str
    shape: Sequence[int]


class ModelMetadata(msgspec.Struct):
    name: str
    versions: Sequence[str]
    platform: str
    inputs: Sequence[TensorMetadata]
    outputs: Sequence[TensorMetadata]


class OutputTensor(msgspec.Struct, omit_defaults=True):
    """A tensor with its data, or with the size of its part of the bytes after the JSON."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class InferenceAnswer(msgspec.Struct, omit_defaults=True):
    """One element of every tensor for every row; ``parameters`` say by what they were called."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    parameters: dict[str, Any]
    id: str | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()


def metadata(live: Live) -> ModelMetadata:
    width = len(live.manifest.feature_schema.names)
    return ModelMetadata(
        name=live.manifest.problem,
        versions=[live.version],
        platform=PLATFORM,
        inputs=[TensorMetadata(INPUT, "FP64", [-1, width])],
        outputs=[TensorMetadata(name, kind, [-1]) for name, kind in OUTPUTS.items()],
    )


def encode(
    live: Live, request: InferenceRequest, predictions: Sequence[Prediction]
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an answer."""
    positive = live.labels.positive.name
    columns: dict[str, Callable[[Prediction], Any]] = {
        "probability": lambda answer: answer.probabilities[positive],
        "label": lambda answer: answer.label,
        "prediction": lambda answer: answer.prediction,
        "prediction_id": lambda answer: answer.prediction_id,
    }
    tensors, parts = [], []
    for name, binary in request.outputs:
        kind = OUTPUTS[name]
        data = list(map(columns[name], predictions))
        tensor = OutputTensor(name, kind, [len(data)])
        if binary:
            parts.append(_packed(kind, data))
            tensor.parameters = {"binary_data_size": len(parts[-1])}
        else:
            tensor.data = data
        tensors.append(tensor)
    text = _encoder.encode(
        InferenceAnswer(
            live.manifest.problem,
            live.version,
            tensors,
            {"threshold": live.manifest.threshold, "manifest_sha256": live.manifest_sha256},
            msgspec.UNSET if request.id is None else request.id,
        )
    )
    if not parts:
        return text, {"Content-Type": JSON}
    return b"".join([text, *parts]), {"Content-Type": BINARY, LENGTH_HEADER: str(len(text))}


def _packed(kind: str, data: list[Any]) -> bytes:
    if kind == "BYTES":
        texts = [text.encode() for text in data]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(data, "<f8" if kind == "FP64" else "<i8").tobytes()
