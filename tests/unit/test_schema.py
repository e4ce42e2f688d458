from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.errors import ConfigError, Defect
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.row_rule import RowRule
from bc_pipeline.sample_metadata import MetadataColumn
from bc_pipeline.schema import Feature, FeatureSchema, row_key

SCHEMA = WDBC.schema
Rows = tuple[np.ndarray, np.ndarray]


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("mean radius", "mean_radius"),
        ("radius_mean", "mean_radius"),
        ("Radius_mean", "mean_radius"),
        ("concave points_worst", "worst_concave_points"),
        ("Nconcave_extreme", "worst_concave_points"),
        ("fractal_dimension_se", "fractal_dimension_error"),
        ("radius1", "mean_radius"),
        ("area3", "worst_area"),
    ],
)
def test_names_of_every_dialect_are_known(name: str, feature: str) -> None:
    assert SCHEMA.canonical(name) == feature


def test_no_two_features_share_a_name() -> None:
    names = [n for f in SCHEMA.features for n in {SCHEMA.canonical(a) for a in f.aliases}]
    assert names == list(SCHEMA.names)


def test_an_unknown_name_is_shown_only_where_it_resembles_a_feature() -> None:
    close = SCHEMA.unknown_name("mean_textur", SCHEMA.suggest("mean_textur"))
    assert close.column == "mean_textur"
    assert close.reason == "is not a feature; did you mean 'mean_texture'?"
    other = SCHEMA.unknown_name("sugar", SCHEMA.suggest("sugar"))
    assert other == Defect("a name that does not resemble those of the features is not a feature")


def test_every_missing_feature_is_listed() -> None:
    missing = SCHEMA.missing_names(SCHEMA.names[2:])
    assert [defect.column for defect in missing] == list(SCHEMA.names[:2])


@pytest.mark.parametrize(
    "name",
    ["5", " 1e3 ", "a\n", "x" * 81, "T-001", "Mueller", "worst_areaT-001", "worst_area12.5"],
)
def test_a_name_that_may_be_a_value_is_not_repeated(name: str) -> None:
    assert SCHEMA.unknown_name(name, SCHEMA.suggest(name)).column is None


def test_the_public_rows_have_no_defect(reference: Rows) -> None:
    assert SCHEMA.row_defects(reference[0]) == {}


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("mean_radius", math.nan, "missing or not a number"),
        ("mean_radius", math.inf, "not a finite number"),
        ("mean_smoothness", 9.0, "physical range 0.01 to 0.5"),
        ("worst_area", -1.0, "physical range 12 to 20000 px^2"),
    ],
)
def test_defects_do_not_contain_the_value(
    reference: Rows, column: str, value: float, reason: str
) -> None:
    values = reference[0][:3].copy()
    values[1, SCHEMA.names.index(column)] = value
    defects = SCHEMA.row_defects(values)
    assert list(defects) == [1]
    assert any(d.column == column and reason in d.reason for d in defects[1])


def test_a_radius_in_another_unit_breaks_the_geometry_of_every_row(reference: Rows) -> None:
    values = reference[0].copy()
    values[:, SCHEMA.names.index("mean_radius")] *= 2.54
    assert len(SCHEMA.row_defects(values)) == 569


def test_a_schema_survives_json() -> None:
    schema = FeatureSchema.from_dict(json.loads(json.dumps(SCHEMA.to_dict(), allow_nan=False)))
    assert schema == SCHEMA
    assert schema.fingerprint == SCHEMA.fingerprint


def test_public_rows_have_distinct_keys(reference: Rows) -> None:
    assert len({row_key(row) for row in reference[0].tolist()}) == 569


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
def test_a_key_does_not_depend_on_how_a_number_was_written(values: list[float]) -> None:
    written = [float(text) for text in next(csv.reader([",".join(f"{v:.12g}" for v in values)]))]
    same = [f"{v:.6g}" for v in written] == [f"{v:.6g}" for v in values]
    assert (row_key(written) == row_key(values)) is same
    assert row_key([0.0, *values]) == row_key([-0.0, *values])


def test_names_that_mean_several_columns_and_rules_without_features_are_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        FeatureSchema(
            (
                Feature("age", "years", 0, 120, ("Years Old",)),
                Feature("duration", "years", 0, 9, ("years_old", "sample-id")),
            ),
            (RowRule("order", "at_least", "age", "height"),),
            ("id", "sample_id"),
            (MetadataColumn("site", aliases=("AGE",)),),
        )
    assert refusal.value.message == (
        "The feature schema is not usable: 'age' means age and site; 'yearsold' means age and "
        "duration; 'sampleid' means duration and id; rule order is about 'height', which is no "
        "feature."
    )


def test_several_spellings_of_one_feature_are_no_conflict() -> None:
    feature = Feature("mean_area", "px^2", 0, 1, ("mean area", "Mean.Area", "area1"))
    assert FeatureSchema((feature,)).canonical("AREA 1") == "mean_area"
