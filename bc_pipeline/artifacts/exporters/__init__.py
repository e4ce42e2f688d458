"""Fitted scikit-learn estimators as ONNX graphs in double precision, an exporter for each type."""
