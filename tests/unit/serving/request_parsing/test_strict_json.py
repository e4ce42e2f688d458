"""JSON bodies that are read into pydantic models."""

from __future__ import annotations

import pytest

from bc_pipeline.errors import SchemaMismatch
from bc_pipeline.serving.request_parsing.strict_json import read_model
from bc_pipeline.serving.retraining import RetrainOrder


@pytest.mark.parametrize("value", [rb'"\ud800"', b"5", b"null", b"[]", b"NaN", b'{"a": 1}'])
def test_a_value_of_another_type_is_a_defect(value: bytes) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        read_model(b'{"require_approval": ' + value + b"}", RetrainOrder)
    (defect,) = caught.value.defects
    assert defect.column == "require_approval"


@pytest.mark.parametrize(("name", "shown"), [("approval", "approval"), ("73519.625", None)])
def test_an_unknown_name_is_shown_unless_it_is_a_value(name: str, shown: str | None) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        read_model(b'{"%s": 1}' % name.encode(), RetrainOrder)
    (defect,) = caught.value.defects
    assert defect.column == shown
