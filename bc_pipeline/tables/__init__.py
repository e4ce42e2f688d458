"""Strict, streamed readers and writers of CSV and Parquet against a feature schema."""
