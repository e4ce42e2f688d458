"""Raised by an exporter for parameters that it does not export."""

from __future__ import annotations


class Unsupported(Exception):
    """The estimator's type has an exporter, but its parameters none; `export_onnx` names it."""
