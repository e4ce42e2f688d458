from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.errors import BodyUnreadable, Defect, SchemaMismatch
from bc_pipeline.problems import get_problem
from bc_pipeline.serving.request_parsing import record
from bc_pipeline.serving.request_parsing.json_members import parse_json
from bc_pipeline.serving.request_parsing.record import RecordParser
from tests.cpu_time import within_loops

SCHEMA = get_problem("wdbc").schema
READER = RecordParser(SCHEMA)
UNSHOWN_NAME = "a name that does not resemble those of the features is not a feature"


@pytest.fixture(scope="module")
def row(reference: tuple[np.ndarray, np.ndarray]) -> list[float]:
    return reference[0][0].tolist()


def named(row: list[float], **changes: Any) -> dict[str, Any]:
    return dict(zip(SCHEMA.names, row, strict=True)) | changes


def defects(body: bytes | Any) -> dict[str | None, str]:
    """Reasons by feature; fails where one feature has two."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(SchemaMismatch) as refused:
        READER.read(content)
    found = [(defect.column, defect.reason) for defect in refused.value.defects]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_every_dialect_gives_the_same_sample(row: list[float]) -> None:
    expected = tuple(row)
    for position in range(3):
        aliases = [feature.aliases[position] for feature in SCHEMA.features]
        assert READER.read(json.dumps(dict(zip(aliases, row, strict=True))).encode()) == (
            READER.read(json.dumps(named(row)).encode())
        )
    spaced = {name.replace("_", " ").title(): value for name, value in named(row).items()}
    for content in (spaced, {"features": row}, {"features": spaced}):
        assert READER.read(json.dumps(content).encode()).values == expected


def test_the_order_of_names_does_not_matter(row: list[float]) -> None:
    content = dict(reversed(named(row).items()))
    assert READER.read(json.dumps(content).encode()).values == tuple(row)


def test_values_keep_all_their_digits(row: list[float]) -> None:
    third = 12 + 1 / 3
    content = named(row, worst_texture=third)
    assert third in READER.read(json.dumps(content).encode()).values


@pytest.mark.parametrize("key", ["id", "ID", "sample_id", "patient id"])
def test_an_id_is_returned_with_the_sample(row: list[float], key: str) -> None:
    for content in (named(row), {"features": row}):
        assert READER.read(json.dumps(content | {key: "Ä 17"}).encode()).id == "Ä 17"


@pytest.mark.parametrize("written", [" T 1", "T 1 ", "\tT 1\n"])
def test_blanks_around_an_id_do_not_belong_to_it_as_in_csv(row: list[float], written: str) -> None:
    for content in (named(row, id=written), {"features": row, "id": written}):
        assert READER.read(json.dumps(content).encode()).id == "T 1"


@pytest.mark.parametrize(
    "wrong", [7.5, 1e300, "  ", True, None, "", "x" * 201, ["a"], {"a": 1}, "a\nb", "a\0"]
)
def test_an_invalid_id_is_a_defect(row: list[float], wrong: Any) -> None:
    assert list(defects(named(row, id=wrong))) == ["id"]


@pytest.mark.parametrize(
    "text", ["1001", "0", "-7", "9007199254740993", "8" * 200], ids=lambda text: text[:20]
)
@pytest.mark.parametrize("key", ["id", "patient id"])
def test_a_whole_number_is_an_id_as_in_csv(row: list[float], text: str, key: str) -> None:
    for content in (named(row), {"features": row}):
        body = json.dumps(content | {key: "?"}).replace('"?"', text)
        assert READER.read(body.encode()).id == text


@pytest.mark.parametrize("text", ["8" * 201, "1e3", "1001.0", "-0.5"])
def test_another_number_is_no_id(row: list[float], text: str) -> None:
    body = json.dumps(named(row, id="?")).replace('"?"', text)
    assert list(defects(body.encode())) == ["id"]


def test_a_byte_order_mark_is_skipped(row: list[float]) -> None:
    for content in (named(row, id="T-1"), {"features": row, "id": "T-1"}, named(row, id=7)):
        body = json.dumps(content).encode()
        assert READER.read(b"\xef\xbb\xbf" + body) == READER.read(body)


def test_a_label_metadata_and_columns_without_a_name_are_passed_over_as_in_csv(
    row: list[float], wdbc: Any
) -> None:
    parser = RecordParser(SCHEMA, wdbc.labels)
    extras: list[dict[str, Any]] = [{"diagnosis": "M"}, {"Target": 1}, {"Unnamed: 32": None}]
    for extra in (*extras, {"": ""}, {"index": 4}, {"site": "north", "Age band": "40-49"}):
        for content in (named(row) | extra, {"features": row} | extra):
            assert parser.read(json.dumps(content).encode()).values == tuple(row)
    for extra in ({"Unnamed: 32": "x"}, {"X": 1.5}):
        with pytest.raises(SchemaMismatch):
            parser.read(json.dumps(named(row) | extra).encode())


def test_an_id_may_have_200_characters(row: list[float]) -> None:
    for content in ({"features": row, "id": "x" * 200}, named(row, id="x" * 200)):
        assert READER.read(json.dumps(content).encode()).id == "x" * 200


def test_two_ids_are_a_defect(row: list[float]) -> None:
    assert defects(named(row, id="a", sample_id="b")) == {
        "id": "is given twice, as 'id' and 'sample_id'"
    }


@pytest.mark.parametrize(
    "text",
    ['"5"', "true", "false", "null", "[1]", "[]", "{}", '{"a": 1}', '""', '"\\ud800"', '"NaN"'],
)
def test_a_value_that_is_not_a_number_is_a_defect(row: list[float], text: str) -> None:
    body = json.dumps(named(row, mean_area=1234567)).replace("1234567", text).encode()
    assert defects(body) == {"mean_area": "is not a number"}
    listed = json.dumps({"features": [1234567, *row[1:]]}).replace("1234567", text).encode()
    assert defects(listed) == {"mean_radius": "is not a number"}


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", "9" * 400, "9" * 5000]
)
def test_a_number_beyond_the_range_of_a_float_is_not_finite(row: list[float], text: str) -> None:
    body = json.dumps(named(row, mean_area=1234567)).replace("1234567", text).encode()
    assert defects(body) == {"mean_area": "is not a finite number"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"   ", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": 1,}', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"nan", "not JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"mean_are\xff": 1.0}', "UTF-8"),
        (b'{"features": [1.0], "id": "\xff"}', "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b"\xef\xbb\xbf{", "not JSON"),
        (b"[" * 500_000, "nested"),
        (b'{"a":' * 100_000, "nested"),
    ],
)
def test_errors_for_invalid_json_do_not_repeat_its_content(body: bytes, said: str) -> None:
    with pytest.raises(BodyUnreadable, match=said):
        READER.read(body)


@pytest.mark.parametrize("body", [b"null", b"[]", b"5", b'"text"', b"true", b"NaN"])
def test_anything_but_an_object_is_a_defect(body: bytes) -> None:
    assert defects(body) == {None: "the record must be a JSON object"}


def test_all_defects_are_listed_together(row: list[float]) -> None:
    content = named(row, mean_area="12", worst_area=-1, mean_texturee=3, id=4.5)
    del content["mean_radius"]
    found = defects(content)
    assert found == {
        "id": "must be a whole number, or a string of 1 to 200 characters that print",
        "mean_area": "is not a number",
        "mean_texturee": "is not a feature; did you mean 'mean_texture'?",
        "mean_radius": "is missing",
        "worst_area": "is outside the physical range 12 to 20000 px^2",
    }


def test_an_empty_object_lacks_every_feature() -> None:
    assert set(defects({})) == set(SCHEMA.names)


def test_a_repeated_name_is_a_defect(row: list[float]) -> None:
    body = json.dumps(named(row))[:-1] + ', "mean_area": 500, "mean_area": 600}'
    assert defects(body.encode()) == {"mean_area": "is given twice"}


def test_one_feature_under_two_names_is_a_defect(row: list[float]) -> None:
    found = defects(named(row) | {"radius_mean": 14})
    assert found == {"mean_radius": "is given twice, as 'mean_radius' and 'radius_mean'"}


def test_a_broken_row_rule_is_a_defect(row: list[float]) -> None:
    found = defects(named(row, mean_radius=row[0] * 2.54))
    assert "mean_area_of_radius" in found["mean_area"]
    assert "worst_radius is below mean_radius" in found["worst_radius"]


@pytest.mark.parametrize("count", [0, 1, 29, 31, 100_000])
def test_a_list_of_another_length_is_a_defect(count: int) -> None:
    numbers = "1 number" if count == 1 else f"{count} numbers"
    found = defects({"features": [1.0] * count})
    assert found == {"features": f"holds {numbers}; expected: 30"}


@pytest.mark.parametrize("wrong", [None, 3, "x", True])
def test_features_must_be_an_object_or_a_list(wrong: Any) -> None:
    assert defects({"features": wrong}) == {"features": "must be an object or a list of numbers"}


def test_other_members_beside_features_are_a_defect(row: list[float]) -> None:
    found = defects({"features": row, "mean_radius": 3, "id": "a"})
    assert found == {"features": "must stand alone, with at most an id beside it"}
    twice = json.dumps({"features": row})[:-1] + ', "features": []}'
    assert "features" in _columns(twice.encode())


def _columns(body: bytes) -> list[str | None]:
    with pytest.raises(SchemaMismatch) as refused:
        READER.read(body)
    return [defect.column for defect in refused.value.defects]


def test_an_unprintable_or_long_name_is_not_repeated(row: list[float]) -> None:
    for name in ("\\ud800", "x" * 200, "a\\u0000b", "\\u202e"):
        body = json.dumps(named(row))[:-1] + f', "{name}": 5}}'
        assert defects(body.encode()) == {None: UNSHOWN_NAME}


def test_of_many_unknown_names_only_some_are_listed() -> None:
    columns = _columns(json.dumps({f"nothing {i}": i for i in range(900)}).encode())
    assert len(columns) < 100


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({f"mean radius {i}": i for i in range(50_000)}).encode(),
        json.dumps({"features": {f"mean radius {i}": i for i in range(50_000)}}).encode(),
        b'{"mean radius":' + b"9" * 1_000_000 + b"}",
        json.dumps({"mean radius" * 90_000: 1}).encode(),
        b"{" + b'"mean radius":1,' * 60_000 + b'"a":1}',
    ],
)
def test_cpu_time_of_hostile_bodies_is_bounded(body: bytes) -> None:
    start = time.process_time()
    with pytest.raises(SchemaMismatch):
        READER.read(body)
    assert within_loops(time.process_time() - start, 20)


def test_no_defect_repeats_a_value(row: list[float]) -> None:
    secret = "8375625.25"
    for text in (secret, f'"{secret}"', f"[{secret}]", f"-{secret}"):
        body = json.dumps(named(row, mean_area=1234567)).replace("1234567", text).encode()
        with pytest.raises(SchemaMismatch) as refused:
            READER.read(body)
        assert secret not in str(refused.value)
        assert "8375625" not in str(refused.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from([*SCHEMA.names[:5], "id", "features", "radius_mean"]) | st.text(),
                inner,
                max_size=6,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_read_or_refused(content: Any) -> None:
    try:
        READER.read(json.dumps(content).encode())
    except (BodyUnreadable, SchemaMismatch) as error:
        str(error).encode()


def test_a_malformed_record_is_parsed_strictly_once(
    row: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bytes] = []
    monkeypatch.setattr(record, "parse_json", lambda body: calls.append(body) or parse_json(body))
    malformed = (
        named(row, mean_area=-1),
        named(row, mean_area="1"),
        named(row, another=1),
        {"features": row[:-1]},
    )
    for content in malformed:
        assert defects(content)
    assert len(calls) == len(malformed)


def test_defects_do_not_depend_on_the_decoder(row: list[float]) -> None:
    for content in (
        named(row, mean_area=-1),
        named(row, another=1),
        {"features": row[:-1], "id": "a"},
        {"features": [-1.0, *row[1:]], "id": "\t"},
    ):
        body = json.dumps(content).encode()
        assert READER.parse(body) == READER.check(parse_json(body))


def test_a_name_that_is_a_number_is_not_repeated(wdbc: Any) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        RecordParser(wdbc.schema).read(b'{"73519.625": "mean_area"}')
    assert caught.value.defects[0] == Defect(UNSHOWN_NAME)
    assert "73519" not in repr(caught.value.defects)
