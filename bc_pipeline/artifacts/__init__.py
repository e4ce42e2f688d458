"""The shared volume: its layout, model versions, the registry, their formats and checks."""
