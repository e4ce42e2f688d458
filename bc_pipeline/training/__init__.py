"""From train rows to a model: cross-validation, selection, fitting, and the mirror in MLflow."""
