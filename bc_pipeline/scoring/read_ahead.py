"""Reading of a table while its blocks are scored."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.table_reader import TableReader


def read_blocks(reader: TableReader, *, ahead: bool) -> Generator[Block]:
    """Yield the blocks of a table; close the generator before the reader.

    Parameters
    ----------
    ahead : bool
        Whether a thread reads the next block meanwhile: Arrow, NumPy and the digest run outside of
        Python's lock. Positions of the reader are then those of the next block.
    """
    if not ahead:
        yield from reader
        return
    blocks = iter(reader)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = pool.submit(next, blocks, None)
            yield block
