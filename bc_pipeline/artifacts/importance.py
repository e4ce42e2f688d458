"""Format of ``importance.json``: how much a model needs each feature."""

from __future__ import annotations

from bc_pipeline.artifacts.document import Document


class FeatureImportance(Document, frozen=True):
    """Rise of the Brier score when one feature is shuffled.

    Attributes
    ----------
    mean, deviation : float
        Mean and standard deviation over the shuffles.
    """

    feature: str
    mean: float
    deviation: float


class Importance(Document, frozen=True, kw_only=True):
    """Permutation importance on the holdout; the format of ``importance.json``.

    Attributes
    ----------
    brier : float
        Of the rows as they are.
    features : tuple of FeatureImportance
        Most important first.
    """

    format: int = 1
    rows: int
    shuffles: int
    seed: int
    brier: float
    features: tuple[FeatureImportance, ...]
