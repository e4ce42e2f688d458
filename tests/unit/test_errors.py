from __future__ import annotations

import inspect
import json
import os
import pickle
import re

import pytest

from bc_pipeline import errors
from bc_pipeline.errors import Defect, PipelineError

KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, PipelineError) and kind.__name__[0] != "_"
]


def test_the_docstring_shows_every_error() -> None:
    shown = set(re.findall(r"── ([A-Z]\w+)", errors.__doc__ or ""))
    assert shown == {kind.__name__ for kind in KINDS} - {"PipelineError"}


def test_codes_are_distinct() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_and_is_plain_json(kind: type[PipelineError]) -> None:
    error = kind("What is wrong.", remedy="What to do.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "What is wrong. What to do."
    assert json.loads(json.dumps(error.to_dict()))["code"] == kind.code


def test_all_defects_are_kept_and_the_first_ten_are_said() -> None:
    defects = tuple(Defect("is odd", line=line) for line in range(2, 14))
    error = errors.FileRefused("No.", source="a.csv", defects=defects)
    assert "line 11: is odd (and 2 more)" in str(error)
    assert len(error.to_dict()["defects"]) == 12


def test_an_error_may_name_a_file_whose_name_is_not_text() -> None:
    name = os.fsdecode(b"a\xff.csv")
    error = errors.FileRefused(f"{name} is odd.", source=name, defects=(Defect("is odd", line=2),))
    assert error.to_dict() == {
        "code": "file-refused",
        "message": f"{name} is odd.",
        "remedy": "",
        "source": name,
        "defects": [{"reason": "is odd", "line": 2, "column": None}],
    }


@pytest.mark.parametrize(
    ("defect", "text"),
    [
        (Defect("is odd"), "is odd"),
        (Defect("is odd", line=3), "line 3: is odd"),
        (Defect("is odd", column="a"), "column 'a': is odd"),
        (Defect("is odd", line=3, column="a"), "line 3, column 'a': is odd"),
    ],
)
def test_a_defect_says_where(defect: Defect, text: str) -> None:
    assert str(defect) == text
