"""Strict, streamed readers and writers of CSV and Parquet against a feature schema."""

from __future__ import annotations

from bc_pipeline.tables.blocks import NO_CODE, Block, Dialect, TableReader
from bc_pipeline.tables.columns import Columns
from bc_pipeline.tables.parts import PART_BYTES, Part, Scan, scan
from bc_pipeline.tables.places import (
    Found,
    Openable,
    Place,
    copy_to,
    file_system,
    find_tables,
    is_url,
)
from bc_pipeline.tables.reader import BLOCK_BYTES, open_part, open_table, part_columns
from bc_pipeline.tables.writer import Kind, Layout, TableWriter, neutral_cell, open_writer

__all__ = [
    "BLOCK_BYTES",
    "NO_CODE",
    "PART_BYTES",
    "Block",
    "Columns",
    "Dialect",
    "Found",
    "Kind",
    "Layout",
    "Openable",
    "Part",
    "Place",
    "Scan",
    "TableReader",
    "TableWriter",
    "copy_to",
    "file_system",
    "find_tables",
    "is_url",
    "neutral_cell",
    "open_part",
    "open_table",
    "open_writer",
    "part_columns",
    "scan",
]
