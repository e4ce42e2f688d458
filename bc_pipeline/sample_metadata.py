"""Metadata of samples: declared columns such as the site or the device, never a model's input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SampleMetadata = Mapping[str, tuple[str, ...]]
"""The text of each sample in each column, empty where it is not known; columns without any text are
left out."""
_WORD = r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,39}"


@dataclass(frozen=True, slots=True)
class MetadataColumn:
    """A column that files may have beside the features, whose values part samples into subgroups.

    Attributes
    ----------
    name : str
    pattern : str
        Regular expression that a value must match as a whole.
    expected : str
        The same in words, for messages.
    aliases : tuple of str
        Other accepted names.
    """

    name: str
    pattern: str = _WORD
    expected: str = "1 to 40 letters, digits, blanks or ._/-"
    aliases: tuple[str, ...] = field(default=())

    def accepts(self, text: str) -> bool:
        """Whether a text is a value of the column."""
        return re.fullmatch(self.pattern, text) is not None


def take_metadata(metadata: SampleMetadata, index: Sequence[int]) -> SampleMetadata:
    """The metadata of the samples at these positions, in this order."""
    return _drop_empty({name: [cells[i] for i in index] for name, cells in metadata.items()})


def join_metadata(parts: Sequence[tuple[SampleMetadata, int]]) -> SampleMetadata:
    """The metadata of samples that follow each other.

    Parameters
    ----------
    parts : sequence of (SampleMetadata, int)
        With the number of samples of each part.
    """
    names = sorted({name for metadata, _ in parts for name in metadata})
    return _drop_empty(
        {
            name: [text for metadata, count in parts for text in metadata.get(name, ("",) * count)]
            for name in names
        }
    )


def first_known(
    metadata: SampleMetadata, keys: Sequence[str], wanted: Sequence[str]
) -> SampleMetadata:
    """For each wanted key the first text of a column that any sample of the key has.

    Parameters
    ----------
    metadata : SampleMetadata
        Of samples with `keys`, of which several may be equal.
    """
    known: dict[str, list[str]] = {}
    for name, cells in metadata.items():
        first = {key: text for key, text in zip(keys[::-1], cells[::-1], strict=True) if text}
        known[name] = [first.get(key, "") for key in wanted]
    return _drop_empty(known)


def _drop_empty(metadata: Mapping[str, Iterable[str]]) -> SampleMetadata:
    complete = {name: tuple(cells) for name, cells in metadata.items()}
    return {name: cells for name, cells in complete.items() if any(cells)}
