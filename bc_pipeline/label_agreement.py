"""How well the labels of a batch agree with what is known of the two classes.

A file whose labels are swapped looks sound by itself: both labels occur, every value is plausible.
A likelihood ratio compares the two explanations, labels as in the file and labels swapped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bc_pipeline.errors import LabelsRefused, counted
from bc_pipeline.label_codes import format_label_codes
from bc_pipeline.labels import Labels

EVIDENCE_CAP = 3.0
"""Largest log-odds that one row counts: no row is more certain than 20 to 1."""
DECISIVE_RATIO = math.log(1000)
"""Log-likelihood ratio from which the labels are decided; three clear rows suffice."""
SWAPPED_MINIMUM = 10
"""Rows from which words and declared codes may be called swapped.

A few rows that all look otherwise than their labels say are corrections of hard cases rather than
swapped labels: unlike a code that nobody declared, a word has a meaning of its own.
"""

_SWAPPED_WORDS = "Are the words for the labels swapped?"
_IF_RIGHT = (
    " If they are right, as in corrections of hard cases, land them together with other rows."
)


@dataclass(frozen=True)
class Agreement:
    """Labels of a batch held against log-odds that do not depend on them.

    Attributes
    ----------
    rows : int
    against : int
        Rows whose log-odds are on the other side than their label.
    log_ratio : float
        Log-likelihood ratio of "labels as in the file" to "labels swapped".
    auc : float or None
        Probability that a positive row has higher log-odds than a negative one; None where all
        rows have one label.
    """

    rows: int
    against: int
    log_ratio: float
    auc: float | None

    @property
    def verdict(self) -> Literal["agrees", "contradicts", "undecided"]:
        """Which explanation the rows decide for.

        Two thirds of the rows and their order have to say the same as the likelihood: labels at
        random fit neither explanation, and where a wrong unit moves all rows to one side, the
        likelihood alone would call half of the labels wrong.
        """
        auc, most = self.auc, 2 * self.rows / 3
        agreeing = self.rows - self.against
        if self.log_ratio >= DECISIVE_RATIO and agreeing >= most and (auc is None or auc > 0.5):
            return "agrees"
        against = self.against >= most and (auc is None or auc < 0.5)
        if self.log_ratio <= -DECISIVE_RATIO and against:
            return "contradicts"
        return "undecided"


def measure_agreement(log_odds: np.ndarray, positive: np.ndarray) -> Agreement:
    """Compare labels with log-odds from other evidence.

    For log-odds that are calibrated, the probability that right labels reach a ratio of 1 to 1000
    is at most 1/1000, whatever the number of rows (Royall, "Statistical Evidence", 1997, ch. 1).
    Each row's log-odds are limited to `EVIDENCE_CAP`, so that some wrong labels decide nothing.

    Parameters
    ----------
    log_odds : array of float, shape (n,)
        Of the positive label.
    positive : array of bool, shape (n,)
        Labels as in the file.
    """
    positive = np.asarray(positive, dtype=bool)
    signed = np.where(positive, 1.0, -1.0) * np.clip(log_odds, -EVIDENCE_CAP, EVIDENCE_CAP)
    return Agreement(
        rows=len(signed),
        against=int((signed < 0).sum()),
        log_ratio=float(signed.sum()),
        auc=_auc(np.asarray(log_odds), positive),
    )


def _auc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Mann-Whitney estimate; ties count half."""
    high, low = np.sort(scores[positive]), np.sort(scores[~positive])
    if not len(high) or not len(low):
        return None
    below = np.searchsorted(low, high, "left").sum()
    tied = np.searchsorted(low, high, "right").sum() - below
    return float((below + tied / 2) / (len(high) * len(low)))


def require_agreement(
    source: str,
    labels: Labels,
    log_odds: np.ndarray,
    positive: np.ndarray,
    coded: np.ndarray,
    *,
    declared: bool,
    uploaded: bool = False,
) -> None:
    """Refuse labels that contradict other evidence, and codes that nothing gives a meaning.

    Words and codes of one file are compared separately. Fewer than `SWAPPED_MINIMUM` rows with
    words or declared codes are accepted without this comparison.

    Parameters
    ----------
    source : str
        Name of the file, for messages.
    log_odds, positive : arrays, each of shape (n,)
        As of `measure_agreement`.
    coded : array of bool, shape (n,)
        Whether each label is a code in the file.
    declared : bool
        Whether somebody declared the codes.
    uploaded : bool
        Whether the rows are those of a request, which declares codes by a parameter.

    Raises
    ------
    LabelsRefused
    """
    for rows, are_codes in ((~coded, False), (coded, True)):
        agreement = measure_agreement(log_odds[rows], positive[rows])
        undeclared = are_codes and not declared
        enough = undeclared or agreement.rows >= SWAPPED_MINIMUM
        if agreement.verdict == "contradicts" and enough:
            question = _swapped_codes(labels, uploaded) if are_codes else _SWAPPED_WORDS
            raise LabelsRefused(
                f"{agreement.against} of {counted(agreement.rows, 'row')} of {source} are labelled "
                "against the class profile, as if the labels were swapped.",
                question if undeclared else question + _IF_RIGHT,
                source=source,
                rows=agreement.rows,
                against=agreement.against,
            )
        if undeclared and rows.any() and agreement.verdict == "undecided":
            raise LabelsRefused(
                f"The label codes of {source} are not declared, and its "
                f"{counted(agreement.rows, 'row by itself does', 'rows by themselves do')} not "
                "show which code means which label.",
                f"Declare the codes, such as {format_label_codes(labels.codes)}: "
                + (
                    "as the parameter label_codes of the request."
                    if uploaded
                    else f"with --label-codes, in {source}.labels.json beside the file, or as the "
                    "parameter label_codes of an upload."
                ),
                source=source,
                rows=agreement.rows,
                against=agreement.against,
            )


def _swapped_codes(labels: Labels, uploaded: bool) -> str:
    codes = labels.codes
    swapped = dict(zip(codes, reversed(list(codes.values())), strict=True))
    declaration = format_label_codes(swapped)
    option = "?label_codes=" if uploaded else "--label-codes "
    return f"Are the codes {declaration}? Then declare them so: {option}{declaration}."
