"""The Open Inference Protocol, and rows of many forms."""
