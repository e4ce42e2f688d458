"""Metrics, access log, traces and readiness."""
