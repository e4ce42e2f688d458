"""Mean and deviation of each feature in the two classes, which show swapped labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# In standard deviations within a class: one value in a wrong unit must not decide for its row.
_FARTHEST = 3.0


@dataclass(frozen=True)
class ClassProfile:
    """Means of the features in each class, and how they become log-odds.

    Each feature counts by its distance from the middle of the two means, in standard deviations
    within a class, times the distance of the means: linear discriminant analysis with a diagonal
    covariance matrix (Dudoit, Fridlyand and Speed, 2002). As features are correlated, the sum is
    too large for log-odds: `slope` and `offset` scale it, as for one normal variable that has the
    same variance in both classes.

    Attributes
    ----------
    positive, negative : tuple of float, length n_features
        Means, in schema order.
    spread : tuple of float, length n_features
        Standard deviation within a class, pooled; infinite for a feature that does not vary.
    slope, offset : float
    """

    positive: tuple[float, ...]
    negative: tuple[float, ...]
    spread: tuple[float, ...]
    slope: float
    offset: float

    @classmethod
    def of_rows(cls, values: np.ndarray, positive: np.ndarray) -> ClassProfile:
        """The profile of labelled rows.

        Parameters
        ----------
        values : array of float, shape (n, n_features)
        positive : array of bool, shape (n,)
            Two rows or more of each class.
        """
        import numpy as np

        high, low = values[positive], values[~positive]
        spread = np.sqrt(_pooled_variance(high, low))
        spread[spread == 0] = np.inf
        means = (tuple(high.mean(axis=0).tolist()), tuple(low.mean(axis=0).tolist()))
        raw = cls(*means, tuple(spread.tolist()), 1.0, 0.0).log_odds(values)
        high, low = raw[positive], raw[~positive]
        variance = float(_pooled_variance(high, low))
        slope = float(high.mean() - low.mean()) / variance if variance else 0.0
        offset = -slope * float(high.mean() + low.mean()) / 2
        return cls(*means, tuple(spread.tolist()), slope, offset)

    def log_odds(self, values: np.ndarray) -> np.ndarray:
        """Log-odds of the positive class at equal prevalence: array of float, shape (n,).

        Parameters
        ----------
        values : array of float, shape (n, n_features)
        """
        import numpy as np

        positive, negative = np.array(self.positive), np.array(self.negative)
        spread = np.array(self.spread)
        distance = (values - (positive + negative) / 2) / spread
        weight = (positive - negative) / spread
        raw = np.clip(distance, -_FARTHEST, _FARTHEST) @ weight
        return np.asarray(self.slope * raw + self.offset)


def _pooled_variance(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    import numpy as np

    squares = high.var(axis=0) * len(high) + low.var(axis=0) * len(low)
    return np.asarray(squares / (len(high) + len(low) - 2))
