from __future__ import annotations

from bc_pipeline.errors import Defect
from bc_pipeline.names import match_names


def test_names_are_matched_with_keys_in_their_order() -> None:
    match = match_names(["b", "A", "x", "a", "a"], {"a": "a", "A": "a", "b": "b"}.get)
    assert match.positions == {"b": 0, "a": 1}
    assert match.repeated == {"a": Defect("is given twice, as 'A' and 'a'", column="a")}
    assert match.unknown == ["x"]
