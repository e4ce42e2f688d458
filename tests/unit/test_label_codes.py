from __future__ import annotations

import pytest

from bc_pipeline.errors import ConfigError
from bc_pipeline.label_codes import format_label_codes, read_label_codes
from bc_pipeline.problems.wdbc import WDBC

LABELS = WDBC.labels


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("0=malignant,1=benign", {"0": "malignant", "1": "benign"}),
        (" 1 = M , 0 = B ", {"0": "benign", "1": "malignant"}),
        ("4=malignant,2=benign", {"2": "benign", "4": "malignant"}),
        ("-1=B,1=M", {"-1": "benign", "1": "malignant"}),
    ],
)
def test_a_declaration_names_the_label_of_each_code(text: str, codes: dict[str, str]) -> None:
    assert read_label_codes(text, LABELS) == codes
    assert read_label_codes(format_label_codes(codes), LABELS) == codes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0=malignant",
        "0=malignant,1=malignant",
        "0=malignant,0=benign",
        "0=M,1=B,2=B",
        "0=malignant,1=healthy",
        "a=M,b=B",
        "0=1,1=0",
        "0=M;1=B",
        "0=M,00=B",
        "1.5=M,2=B",
    ],
)
def test_any_other_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="Write it as 0=malignant,1=benign") as refused:
        read_label_codes(text, LABELS)
    assert refused.value.setting == "label_codes"


def test_declared_codes_replace_those_of_the_labels() -> None:
    labels = LABELS.with_codes(read_label_codes("2=benign,4=malignant", LABELS))
    spellings = ("4", "4.0", "2", "M", "benign")
    assert [labels.code_of(text) for text in spellings] == [0, 0, 1, 0, 1]
    assert labels.code_of("0") is labels.code_of("1") is None
    assert labels.codes == {"4": "malignant", "2": "benign"}
