"""Names and ids as texts: what may be one, and which key a name stands for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from bc_pipeline.errors import Defect

ID_COLUMN = "id"
MISSING = "is missing"
MAX_ID_LENGTH = 200
# Longer names are no features, and appear in no message.
MAX_NAME_LENGTH = 80
# How much two words must have in common to be a misspelling of each other.
CLOSE_WORD = 0.75
# Decimal digits only: no hexadecimal, no underscores, no thousands separators.
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
BLANKS = " \t"


def is_number(text: str) -> bool:
    """Whether a text is a decimal number; blanks around it are ignored."""
    return re.fullmatch(NUMBER, text.strip(BLANKS)) is not None


def is_word_of(name: str, words: Iterable[str]) -> bool:
    """Whether every part of a name is one of some words, or a misspelling of one.

    Only such names may be repeated in messages: any other may be a value of a patient, where a
    header or the ends of lines were lost.
    """
    if len(name) > MAX_NAME_LENGTH or not re.fullmatch(r"[A-Za-z][A-Za-z _.-]*[0-9]?", name):
        return False
    parts = re.findall("[a-z]+", name.lower())
    return all(_close_to(part, words) for part in parts)


def _close_to(part: str, words: Iterable[str]) -> bool:
    similar = [word for word in words if abs(len(word) - len(part)) <= 1]
    return part in words or bool(difflib.get_close_matches(part, similar, 1, CLOSE_WORD))


def is_sample_id(text: str) -> bool:
    """Whether a text, without blanks around it, may be the id of a sample, in JSON and tables."""
    return 0 < len(text) <= MAX_ID_LENGTH and text.isprintable() and text == text.strip()


def fold(name: str) -> str:
    """Fold a column name so that case, spaces, dots and underscores do not matter."""
    return "".join(char for char in name.casefold() if char.isalnum())


class NameMatch(NamedTuple):
    """Result of `match_names`.

    Attributes
    ----------
    positions : dict of str to int
        Of the first name of each key.
    repeated : dict of str to Defect
        Keys that have several names.
    unknown : list of str
        Names without a key.
    """

    positions: dict[str, int]
    repeated: dict[str, Defect]
    unknown: list[Any]


def match_names(names: Iterable[Any], key_of: Callable[[Any], str | None]) -> NameMatch:
    """Match names, such as those of columns or JSON members, with keys.

    Parameters
    ----------
    key_of : callable
        The key of a name, such as a feature; None where it has none.
    """
    match = NameMatch({}, {}, [])
    first: dict[str, Any] = {}
    for position, name in enumerate(names):
        key = key_of(name)
        if key is None:
            match.unknown.append(name)
        elif key not in first:
            first[key] = name
            match.positions[key] = position
        elif key not in match.repeated:
            spellings = "" if name == first[key] else f", as {first[key]!r} and {name!r}"
            match.repeated[key] = Defect(f"is given twice{spellings}", column=key)
    return match
