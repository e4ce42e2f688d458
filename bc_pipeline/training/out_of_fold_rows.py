"""Train rows with the probabilities of models that were not trained on them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, eq=False, kw_only=True)
class OutOfFoldRows:
    """The out-of-fold probability of each row; a Parquet file holds them.

    Attributes
    ----------
    keys : tuple of str, length n
        Row keys in ascending order; the arrays follow it.
    positive : array of int8, shape (n,)
    probability : array of float64, shape (repeats, n)
        Of the positive class; each from the fit of its repeat that was not trained on the row.
    nested_threshold : array of float64, shape (n,)
        For the row's fold of the first repeat: set by a cross-validation within the other folds.
    """

    keys: tuple[str, ...]
    positive: np.ndarray
    probability: np.ndarray
    nested_threshold: np.ndarray

    @classmethod
    def decode(cls, data: bytes) -> Self:
        import pyarrow.parquet as pq

        table = pq.read_table(io.BytesIO(data))
        repeats = range(table.num_columns - 3)
        return cls(
            keys=tuple(table["key"].to_pylist()),
            positive=table["positive"].to_numpy(),
            probability=np.stack([table[f"repeat_{number}"].to_numpy() for number in repeats]),
            nested_threshold=table["nested_threshold"].to_numpy(),
        )

    def encode(self) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "key": pa.array(self.keys, pa.string()),
                "positive": pa.array(self.positive, pa.int8()),
                "nested_threshold": pa.array(self.nested_threshold, pa.float64()),
            }
            | {f"repeat_{number}": row for number, row in enumerate(self.probability)}
        )
        stream = io.BytesIO()
        pq.write_table(table, stream, use_dictionary=False)
        return stream.getvalue()

    @property
    def nested_call(self) -> np.ndarray:
        """Whether each row is called positive by a model and a threshold that it had no part in.

        Returns
        -------
        array of bool, shape (n,)
        """
        return np.asarray(self.probability[0] > self.nested_threshold)

    @property
    def pooled(self) -> np.ndarray:
        """Mean over the repeats of each row's out-of-fold probability, shape (n,)."""
        return np.asarray(self.probability.mean(axis=0))
