from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.tables.text_column import TextColumn

texts = st.lists(st.none() | st.text(max_size=12), max_size=20)


@given(before=texts, given_texts=texts, after=texts)
def test_a_column_is_the_sequence_of_its_texts_and_of_their_bytes(
    before: list[str | None], given_texts: list[str | None], after: list[str | None]
) -> None:
    whole = pa.array([*before, *given_texts, *after], pa.string())
    column = TextColumn(whole.slice(len(before), len(given_texts)))
    assert list(column) == given_texts
    assert len(column) == len(given_texts)
    assert column[1:3] == given_texts[1:3]
    data, starts = column.utf8()
    spans = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    parts = [data[start:end].tobytes().decode() for start, end in spans]
    assert parts == [text or "" for text in given_texts]


@given(texts)
def test_a_plain_column_has_printable_ascii_without_blanks(given_texts: list[str | None]) -> None:
    expected = bool(given_texts) and all(
        text and text.isascii() and text.isprintable() and " " not in text and len(text) <= 9
        for text in given_texts
    )
    assert TextColumn.of(given_texts).is_plain(9) == expected


def test_a_column_of_plain_texts_is_plain() -> None:
    column = TextColumn.of([f"p-{number}" for number in np.arange(50)])
    assert column.is_plain(4)
    assert not column.is_plain(3)
    assert TextColumn.of(column) is column
