from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.scoring.repeated_ids import hash_ids
from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.text_column import TextColumn


def hashes(ids: list[str | None] | TextColumn) -> list[int]:
    count = len(ids)
    return hash_ids(Block(np.arange(count), ids, np.empty((count, 0)), None)).tolist()


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=30))
def test_equal_ids_have_equal_hashes_and_others_do_not(ids: list[str]) -> None:
    found = hashes([*ids, None])
    assert len(found) == len(ids)
    assert len(set(found)) == len(set(ids))
    assert dict(zip(ids, found, strict=True)) == dict(zip(ids[::-1], found[::-1], strict=True))


@given(st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=20), st.data())
def test_a_hash_does_not_depend_on_the_ids_beside_it(ids: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(ids) - 1))
    part = TextColumn(pa.array(ids).slice(start))
    assert hashes(part) == hashes([*ids])[start:]


def test_ids_that_differ_in_one_byte_or_in_zeros_at_their_ends_differ() -> None:
    ids = [f"{stem}{end}" for stem in ("", "p", "patient-0", "x" * 15, "x" * 16) for end in "0123"]
    ids += ["a", "a\0", "a\0\0", "a" * 8, "a" * 8 + "\0", "a" * 9]
    assert len(set(hashes([*ids]))) == len(ids)


def test_a_million_numbered_ids_have_different_hashes() -> None:
    found = hashes([f"patient-{number:07d}" for number in range(1_000_000)])
    assert len(np.unique(found)) == 1_000_000
