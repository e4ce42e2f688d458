"""The model that answers: loading, verification, replacement and description."""
