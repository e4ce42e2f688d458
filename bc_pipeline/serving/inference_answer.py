"""Responses of the Open Inference Protocol V2: tensors in JSON or as binary data."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from bc_pipeline import __version__
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.prediction import Prediction
from bc_pipeline.serving.request_parsing.inference_request import (
    INPUT,
    LENGTH_HEADER,
    OUTPUTS,
    InferenceRequest,
)

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


def metadata(model: LoadedModel) -> ModelMetadata:
    width = len(model.schema.names)
    return ModelMetadata(
        name=model.manifest.problem,
        versions=[model.version],
        platform=PLATFORM,
        inputs=[TensorMetadata(INPUT, "FP64", [-1, width])],
        outputs=[TensorMetadata(name, kind, [-1]) for name, kind in OUTPUTS.items()],
    )


def encode(
    model: LoadedModel, request: InferenceRequest, predictions: Sequence[Prediction]
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the response to an inference request."""
    positive = model.labels.positive.name
    columns: dict[str, Callable[[Prediction], Any]] = {
        "probability": lambda answer: answer.probabilities[positive],
        "label": lambda answer: answer.label,
        "prediction": lambda answer: answer.prediction,
        "prediction_id": lambda answer: answer.prediction_id,
    }
    tensors, blobs = [], []
    for name, binary in request.outputs:
        kind = OUTPUTS[name]
        data = list(map(columns[name], predictions))
        tensor = OutputTensor(name, kind, [len(data)])
        if binary:
            blobs.append(_pack(kind, data))
            tensor.parameters = {"binary_data_size": len(blobs[-1])}
        else:
            tensor.data = data
        tensors.append(tensor)
    text = _encoder.encode(
        InferenceAnswer(
            model.manifest.problem,
            model.version,
            tensors,
            {"threshold": model.manifest.threshold, "manifest_sha256": model.manifest_sha256},
            msgspec.UNSET if request.id is None else request.id,
        )
    )
    if not blobs:
        return text, {"Content-Type": JSON}
    return b"".join([text, *blobs]), {"Content-Type": BINARY, LENGTH_HEADER: str(len(text))}


def _pack(kind: str, data: list[Any]) -> bytes:
    if kind == "BYTES":
        texts = [text.encode() for text in data]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(data, "<f8" if kind == "FP64" else "<i8").tobytes()
