"""Backups of the volume and its databases: one encrypted file, made, checked and restored."""
