"""What stands on the shared volume: model versions, the registry, their formats and checks."""
