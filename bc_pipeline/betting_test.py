"""The sequential test of a gain that new rows add up to, however often they are looked at."""

from __future__ import annotations

import numpy as np

BETS = (0.1, 0.3, 0.5, 0.7, 0.9)


def log_e_values(gains: np.ndarray) -> np.ndarray:
    """Logarithm of the e-value after each row.

    Under the null hypothesis that no row's gain is above zero on average, given all rows before
    it, the e-value ever reaches ``1 / alpha`` with a probability of `alpha` at most. So it may be
    read after every row, and rows may go on being added. It is the capital of a bet on each row,
    the product of ``1 + bet * gain``, averaged over fixed bets; so it does not depend on the order
    of the rows.

    Parameters
    ----------
    gains : array of float, shape (n,)
        Each between -1 and 1, such as the difference of two squared errors of probabilities.

    Returns
    -------
    array of float64, shape (n,)

    Raises
    ------
    ValueError
        Where a gain is not finite or not between -1 and 1.

    References
    ----------
    I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting",
    Journal of the Royal Statistical Society B 86, 2024. J. Ville, "Etude critique de la notion de
    collectif", 1939: the bound on the probability.
    """
    gains = np.asarray(gains, dtype=np.float64)
    if not (np.abs(gains) <= 1.0).all():
        raise ValueError("a gain is not a number between -1 and 1")
    capital = np.cumsum(np.log1p(np.multiply.outer(np.array(BETS), gains)), axis=1)
    mean: np.ndarray = np.logaddexp.reduce(capital, axis=0) - np.log(len(BETS))
    return mean
