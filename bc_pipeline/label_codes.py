"""The declared meaning of a file's label codes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bc_pipeline.errors import ConfigError
from bc_pipeline.labels import Labels

_PAIR = re.compile(r"\s*(-?[0-9]{1,9})\s*=\s*(\S+)\s*")


def read_label_codes(text: str, labels: Labels) -> dict[str, str]:
    """Read a declaration such as ``0=<label>,1=<label>``.

    Returns
    -------
    dict of str to str
        The name of each code's label, in the order of the codes.

    Raises
    ------
    ConfigError
        Where it does not give each label exactly one code.
    """
    pairs = [_PAIR.fullmatch(part) for part in text.split(",")]
    if not all(pairs):
        raise _malformed(labels)
    return check_label_codes({pair[1]: pair[2] for pair in pairs if pair}, labels)


def check_label_codes(codes: Mapping[str, str], labels: Labels) -> dict[str, str]:
    """The declared codes with the labels' names; errors as of `read_label_codes`."""
    names = {labels.positive.code: labels.positive.name, labels.negative.code: labels.negative.name}
    declared: dict[int, str] = {}
    for code, word in codes.items():
        label = labels.with_codes({}).code_of(word)
        if re.fullmatch(r"-?[0-9]{1,9}", code) is None or label is None or int(code) in declared:
            raise _malformed(labels)
        declared[int(code)] = names[label]
    if len(declared) != len(names) or set(declared.values()) != set(names.values()):
        raise _malformed(labels)
    return {str(code): declared[code] for code in sorted(declared)}


def format_label_codes(codes: Mapping[str, str]) -> str:
    """The declaration as `read_label_codes` reads it."""
    return ",".join(f"{code}={name}" for code, name in codes.items())


def _malformed(labels: Labels) -> ConfigError:
    return ConfigError(
        "The declaration of label codes does not give each label exactly one whole number.",
        f"Write it as {format_label_codes(labels.codes)}.",
        setting="label_codes",
    )
