"""Watching what is live: the alert rules of the service."""
