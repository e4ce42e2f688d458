"""Relations between two features of a row that follow from how they are measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class RowRule:
    """A relation between two features of a row that follows from how they are measured.

    Attributes
    ----------
    name : str
    kind : {"at_least", "ratio", "zero_together"}
        ``at_least``: left >= right. ``ratio``: low <= left / (scale * right ** power)
        <= high wherever right is positive. ``zero_together``: left is zero exactly when
        right is.
    left, right : str
        Feature names.
    """

    name: str
    kind: Literal["at_least", "ratio", "zero_together"]
    left: str
    right: str
    scale: float = 1.0
    power: float = 1.0
    low: float = -math.inf
    high: float = math.inf

    def broken(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Whether each row breaks the rule.

        Parameters
        ----------
        left, right : array of float, shape (n,)

        Returns
        -------
        array of bool, shape (n,)
        """
        import numpy as np

        if self.kind == "at_least":
            return np.asarray(left < right)
        if self.kind == "zero_together":
            return np.asarray((left == 0) != (right == 0))
        ratio = self.ratio(left, right)
        return np.asarray((right > 0) & ~((ratio >= self.low) & (ratio <= self.high)))

    def ratio(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The ratio that a ``ratio`` rule bounds: left / (scale * right ** power), per row.

        Parameters
        ----------
        left, right : array of float, shape (n,)

        Returns
        -------
        array of float, shape (n,)
        """
        import numpy as np

        with np.errstate(all="ignore"):
            return np.asarray(left / (self.scale * right**self.power))

    @property
    def reason(self) -> str:
        if self.kind == "at_least":
            return f"{self.left} is below {self.right}"
        if self.kind == "zero_together":
            return f"only one of {self.left} and {self.right} is zero"
        return (
            f"{self.left} and {self.right} do not fit together "
            f"(rule {self.name}: a unit or a column may be wrong)"
        )
