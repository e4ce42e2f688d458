"""Arrays between Arrow and NumPy or Python without pandas.

``pa.array``, ``pa.scalar`` and ``to_numpy`` import pandas where it is installed: .3 s at the start
of every process. ``take`` and ``cast`` import ``pyarrow.compute``: .05 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np


def number_array(numbers: np.ndarray) -> Any:
    """Numbers as an Arrow array of the same type; memory is shared where they are contiguous."""
    import pyarrow as pa

    buffer = pa.py_buffer(np.ascontiguousarray(numbers))
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [None, buffer])


def text_array(texts: Sequence[str | None]) -> Any:
    """Texts as pyarrow.StringArray; None is null."""
    import pyarrow as pa

    data = [(text or "").encode() for text in texts]
    starts = np.fromiter(accumulate(map(len, data), initial=0), np.int32, len(data) + 1)
    valid = None
    if None in texts:
        is_text = [text is not None for text in texts]
        valid = pa.py_buffer(np.packbits(is_text, bitorder="little"))
    buffers = [valid, pa.py_buffer(starts), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(pa.string(), len(data), buffers)


def chosen_texts(texts: Sequence[str], index: np.ndarray) -> Any:
    """One of some texts for each row, as pyarrow.StringArray.

    Parameters
    ----------
    index : array of int, shape (n,)
        Position in `texts`; null where it is negative.
    """
    import pyarrow as pa

    data = [text.encode() for text in texts]
    lengths = np.array([*map(len, data), 0], np.int32)[index]
    starts = np.zeros(len(index) + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    filled = np.flatnonzero(lengths)
    # In one width, and then without what fills the shorter ones up.
    padded = np.array([*data, b""])
    cells = padded[index[filled]].view(np.uint8).reshape(len(filled), padded.itemsize)
    text = cells[np.arange(padded.itemsize) < lengths[filled, None]]
    valid = None
    if (index < 0).any():
        valid = pa.py_buffer(np.packbits(index >= 0, bitorder="little"))
    buffers = [valid, pa.py_buffer(starts), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string(), len(index), buffers)


def numbers_of(array: Any) -> np.ndarray:
    """The numbers of an Arrow array; a null is NaN, and only nulls make a copy."""
    if array.null_count or not len(array):
        with_nulls: np.ndarray = array.to_numpy(zero_copy_only=False)
        return with_nulls
    return np.from_dlpack(array)
