"""Builds an ONNX graph node by node; the only module that imports onnx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bc_pipeline.artifacts.predictors import OUTPUT

# Pinned, so that the bytes depend on the estimator alone.
_OPSET = 21
_ML_OPSET = 5
_IR_VERSION = 10

Kind = Literal["DOUBLE", "FLOAT", "UINT8"]


@dataclass
class Graph:
    """The nodes, constants and inputs of a graph; each tensor is known by its name.

    Attributes
    ----------
    may_be_missing : bool
        Whether values of the input may be NaN, which stands for a value that is not given.
    """

    may_be_missing: bool = False
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    ml: bool = False

    def input(self, name: str, kind: Kind, shape: Sequence[int | None]) -> str:
        """Declare an input; a None in the shape is a size that each run chooses."""
        from onnx import TensorProto, helper

        element = TensorProto.DataType.Value(kind)
        self.inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def constant(self, value: Any, kind: type = np.float64) -> str:
        """A constant tensor of an array or number."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        array: np.ndarray = np.array(value, dtype=kind, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The output of an operator; attributes that are arrays are stored as tensors."""
        from onnx import helper, numpy_helper

        name = f"n{len(self.nodes)}"
        stored = {
            key: numpy_helper.from_array(value, key) if isinstance(value, np.ndarray) else value
            for key, value in attributes.items()
        }
        self.nodes.append(
            helper.make_node(kind, inputs, [name], name=name, domain=domain, **stored)
        )
        self.ml = self.ml or bool(domain)
        return name

    def cast(self, tensor: str, kind: Kind) -> str:
        """A tensor of the same numbers, rounded to another type."""
        from onnx import TensorProto

        return self.op("Cast", tensor, to=TensorProto.DataType.Value(kind))

    def sigmoid(self, score: str) -> str:
        """1 / (1 + exp(-score)); where the exponential overflows, the result is 0."""
        exponential = self.op("Exp", self.op("Neg", score))
        one = self.constant(1.0)
        return self.op("Div", one, self.op("Add", exponential, one))

    def to_bytes(self, output: str) -> bytes:
        """The model whose output is that tensor; the same graph gives the same bytes."""
        from onnx import TensorProto, checker, helper

        self.nodes.append(helper.make_node("Identity", [output], [OUTPUT], name="answer"))
        graph = helper.make_graph(
            self.nodes,
            "bc_pipeline",
            self.inputs,
            [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        if self.ml:
            opsets.append(helper.make_opsetid("ai.onnx.ml", _ML_OPSET))
        model = helper.make_model(
            graph, producer_name="bc_pipeline", ir_version=_IR_VERSION, opset_imports=opsets
        )
        checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        return data
