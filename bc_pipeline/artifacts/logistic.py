"""A logistic regression read out of its graph: one row is then a few sums, without a runtime.

ONNX Runtime is made for tensors. For one row of thirty numbers it takes many times as long as
the arithmetic, and what it brings into the processor's caches costs the rest of a request as
much again. Only the graph that `export` makes of a scaled logistic regression is read; every
other is left to the runtime.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from operator import mul, sub, truediv

import numpy as np

# Field numbers of ONNX's protocol buffers.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_CONSTANT = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATION = 1, 2, 4
_TENSOR_TYPE, _TENSOR_NAME, _TENSOR_BYTES = 2, 8, 9
_DOUBLE = 11
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# What is done to the row, and on which side of it the constant stands; "" where there is none.
_STEPS = (
    ("Sub", "right"),
    ("Div", "right"),
    ("MatMul", "right"),
    ("Add", "right"),
    ("Neg", ""),
    ("Exp", ""),
    ("Add", "right"),
    ("Div", "left"),
    ("Identity", ""),
)


class Logistic:
    """1 / (1 + exp(-(intercept + sum of weight * (value - mean) / scale))).

    Parameters
    ----------
    mean, scale, weights : sequence of float
        Of each feature.
    """

    def __init__(
        self,
        mean: Sequence[float],
        scale: Sequence[float],
        weights: Sequence[float],
        intercept: float,
    ) -> None:
        self._mean, self._scale, self._weights = tuple(mean), tuple(scale), tuple(weights)
        self._intercept = intercept

    def positive(self, values: Sequence[float]) -> float:
        """Probability of the positive class of one row."""
        scaled = map(truediv, map(sub, values, self._mean), self._scale)
        score = sum(map(mul, scaled, self._weights)) + self._intercept
        try:
            return 1.0 / (1.0 + math.exp(-score))
        except OverflowError:
            return 0.0


def read_logistic(graph: bytes, source: str, width: int) -> Logistic | None:
    """The logistic regression that a graph is; None where it is anything else.

    Parameters
    ----------
    graph : bytes
        A serialised ONNX model.
    source : str
        Name of its input.
    width : int
        Features of a row.
    """
    try:
        constants = _chain(graph, source)
    except (ValueError, IndexError):
        return None
    if constants is None:
        return None
    *vectors, intercept, one, numerator = constants
    if [len(vector) for vector in vectors] != [width] * 3 or [*one, *numerator] != [1.0, 1.0]:
        return None
    if len(intercept) != 1 or not all(math.isfinite(value) for part in constants for value in part):
        return None
    return Logistic(vectors[0], vectors[1], vectors[2], intercept[0])


def _chain(data: bytes, source: str) -> list[list[float]] | None:
    """Constants of the steps in their order, where the nodes are these steps, each on the last."""
    parts = [_split(value) for number, value in _fields(data) if number == _MODEL_GRAPH]
    if len(parts) != 1:
        return None
    constants: dict[bytes, list[float]] = {}
    for tensor in parts[0].get(_GRAPH_CONSTANT, []):
        found = _split(tensor)
        if found.get(_TENSOR_TYPE) != [_varint(_DOUBLE)]:
            return None
        constants[found[_TENSOR_NAME][0]] = np.frombuffer(found[_TENSOR_BYTES][0], "<f8").tolist()
    nodes = [_split(node) for node in parts[0].get(_GRAPH_NODE, [])]
    if len(nodes) != len(_STEPS):
        return None
    row, taken = source.encode(), []
    for node, (operation, side) in zip(nodes, _STEPS, strict=True):
        inputs = list(node[_NODE_INPUT])
        if node[_NODE_OPERATION] != [operation.encode()] or len(inputs) != 1 + bool(side):
            return None
        if side:
            constant = constants.get(inputs.pop(-1 if side == "right" else 0))
            if constant is None:
                return None
            taken.append(constant)
        if inputs != [row]:
            return None
        row = node[_NODE_OUTPUT][0]
    return taken


def _split(data: bytes) -> dict[int, list[bytes]]:
    """Values of a message by field."""
    found: dict[int, list[bytes]] = {}
    for number, value in _fields(data):
        found.setdefault(number, []).append(value)
    return found


def _varint(value: int) -> bytes:
    """A small number as `_fields` gives it."""
    return bytes([value])


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and raw values of a message's fields."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind, start = key & 7, at
        if kind == _VARINT:
            _, at = _read_varint(data, at)
        elif kind == _BYTES:
            size, start = _read_varint(data, at)
            at = start + size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("not a protocol buffer")
        if at > len(data):
            raise ValueError("not a whole protocol buffer")
        yield key >> 3, data[start:at]


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
