"""Strict, streamed readers and writers of CSV and Parquet against a feature schema."""

from __future__ import annotations

from bc_pipeline.tables.blocks import NO_CODE, Block, Dialect, TableReader
from bc_pipeline.tables.reader import BLOCK_BYTES, open_table
from bc_pipeline.tables.writer import Kind, Layout, TableWriter, neutral_cell, open_writer

__all__ = [
    "BLOCK_BYTES",
    "NO_CODE",
    "Block",
    "Dialect",
    "Kind",
    "Layout",
    "TableReader",
    "TableWriter",
    "neutral_cell",
    "open_table",
    "open_writer",
]
