"""The prediction service: it knows a model by its manifest, and loads no training stack."""
