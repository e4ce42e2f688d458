"""Strict, streamed readers and writers of CSV and Parquet against a feature schema."""

from __future__ import annotations

from bc_pipeline.tables.blocks import NO_CODE, Block, Dialect, TableReader
from bc_pipeline.tables.reader import open_table

__all__ = ["NO_CODE", "Block", "Dialect", "TableReader", "open_table"]
