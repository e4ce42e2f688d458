from __future__ import annotations

import pytest

from bc_pipeline.problems.base import Problem
from bc_pipeline.sample_metadata import first_known, join_metadata, take_metadata
from bc_pipeline.schema import FeatureSchema


def test_parts_without_a_column_have_empty_texts_in_it() -> None:
    joined = join_metadata([({"site": ("a", "b")}, 2), ({}, 1), ({"device": ("x",)}, 1)])
    assert joined == {"site": ("a", "b", "", ""), "device": ("", "", "", "x")}
    assert join_metadata([({}, 3), ({"site": ("", "")}, 2)]) == {}


def test_a_column_without_any_text_is_left_out() -> None:
    assert take_metadata({"site": ("a", ""), "device": ("x", "y")}, [1]) == {"device": ("y",)}


def test_the_first_text_of_a_key_counts() -> None:
    metadata = {"site": ("", "a", "b", "c")}
    assert first_known(metadata, ("k", "k", "k", "m"), ("m", "k", "n")) == {"site": ("c", "a", "")}


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("site", ["North 2", "A", "st.-mary/1"], ["a" * 41, "x\ny", "=cmd()", " a"]),
        ("age_band", ["40-49", "<40", ">= 80", "80+"], ["47", "1979-05-02", "old"]),
    ],
)
def test_values_of_the_public_problem(
    wdbc: Problem, column: str, good: list[str], bad: list[str]
) -> None:
    declared = wdbc.schema.metadata_column(column)
    assert declared is not None
    assert all(map(declared.accepts, good))
    assert not any(map(declared.accepts, bad))


def test_metadata_is_no_part_of_what_a_model_was_trained_for(wdbc: Problem) -> None:
    bare = FeatureSchema(wdbc.schema.features, wdbc.schema.rules, wdbc.schema.id_aliases)
    assert bare.fingerprint == wdbc.schema.fingerprint
    assert FeatureSchema.from_dict(wdbc.schema.to_dict()) == wdbc.schema
    assert FeatureSchema.from_dict(bare.to_dict()) == bare
