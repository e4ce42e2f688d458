from __future__ import annotations

import json

import numpy as np
import pytest

from bc_pipeline.labels import Labels
from bc_pipeline.problems.wdbc import WDBC

LABELS = WDBC.labels
Rows = tuple[np.ndarray, np.ndarray]


def test_malignant_is_positive_inside_and_zero_outside(reference: Rows) -> None:
    _, codes = reference
    positive = LABELS.to_positive(codes)
    assert positive.sum() == 212
    assert ((positive == 1) == (codes == 0)).all()
    assert (LABELS.code(True), LABELS.name(True)) == (0, "malignant")
    assert (LABELS.code(False), LABELS.name(False)) == (1, "benign")


@pytest.mark.parametrize(
    ("spelling", "code"),
    [
        ("M", 0),
        ("malignant", 0),
        ("0", 0),
        (" m ", 0),
        ("B", 1),
        ("Benign", 1),
        ("1", 1),
        ("0.0", 0),
        ("1.", 1),
        (" 1", 1),
        ("1.00", 1),
        ("-0", 0),
        ("1e0", 1),
    ],
)
def test_spellings_of_labels_are_recognised(spelling: str, code: int) -> None:
    assert LABELS.code_of(spelling) == code


@pytest.mark.parametrize("spelling", ["", "2", "x", "0.5", "-1", "none", "true", "FALSE", "1e400"])
def test_unknown_labels_are_not_guessed(spelling: str) -> None:
    assert LABELS.code_of(spelling) is None


def test_labels_survive_json() -> None:
    assert Labels.from_dict(json.loads(json.dumps(LABELS.to_dict()))) == LABELS
