"""Deployments outside the embedded stack: containers, clusters, their secrets and alert rules."""
