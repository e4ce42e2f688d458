from __future__ import annotations

import os

import pytest

from bc_pipeline.tables.file_names import name_defect, printable_name


@pytest.mark.parametrize("name", ["a.csv", "Größe 10.csv", "a\u202fb.csv", "a\\b.csv"])
def test_names_of_text_are_taken_as_they_are(name: str) -> None:
    assert name_defect(name) is None
    assert printable_name(name) == name


@pytest.mark.parametrize(
    ("name", "shown", "reason"),
    [
        (os.fsdecode(b"caf\xe9.csv"), r"caf\xe9.csv", "not UTF-8"),
        ("a\nb.csv", r"a\nb.csv", "control characters"),
        ("a\x1b[2J.csv", r"a\x1b[2J.csv", "control characters"),
    ],
)
def test_other_names_are_refused_in_printable_form(name: str, shown: str, reason: str) -> None:
    assert printable_name(name) == shown
    assert reason in str(name_defect(name))
