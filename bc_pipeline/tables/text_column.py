"""Texts of rows in Arrow's memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np

from bc_pipeline.tables.arrow_arrays import text_array

_BLANK, _DELETE = 32, 127


class TextColumn(Sequence[str | None]):
    """A sequence of texts, of which Python's objects are made only where somebody looks at them.

    Attributes
    ----------
    array : pyarrow.StringArray
        Null stands for None.
    """

    def __init__(self, array: Any) -> None:
        self.array = array

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> TextColumn:
        """The column of some texts; the same one where they are a column."""
        return texts if isinstance(texts, cls) else cls(text_array(texts))

    @cached_property
    def _texts(self) -> list[str | None]:
        texts: list[str | None] = self.array.to_pylist()
        return texts

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        return self._texts[index]

    def utf8(self) -> tuple[np.ndarray, np.ndarray]:
        """All texts as UTF-8, and where each starts; a null is as an empty text.

        Returns
        -------
        array of uint8, shape (m,)
        array of int32, shape (n + 1,)
        """
        _, offsets, data = self.array.buffers()
        if not len(self.array):
            return np.empty(0, np.uint8), np.zeros(1, np.int32)
        first = self.array.offset
        starts = np.frombuffer(offsets, np.int32)[first : first + len(self.array) + 1]
        text = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
        return text[starts[0] : starts[-1]], starts - starts[0]

    def is_plain(self, longest: int) -> bool:
        """Whether each text is printable ASCII without blanks, of 1 to `longest` characters."""
        if self.array.null_count or not len(self):
            return False
        text, starts = self.utf8()
        lengths = np.diff(starts)
        return bool(
            lengths.min() > 0
            and lengths.max() <= longest
            and text.min() > _BLANK
            and text.max() < _DELETE
        )
