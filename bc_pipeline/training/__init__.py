"""From train rows to a model: candidates compared, one chosen and fitted, MLflow told."""
