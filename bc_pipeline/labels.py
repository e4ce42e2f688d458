"""The classes of a problem, their codes, and their spellings in files.

Only here are label codes translated: files and the API use those of the problem; inside, the
positive class is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from bc_pipeline.names import MAX_NAME_LENGTH, fold, is_number

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Label:
    """One class: its name, its code in files and the API, and its spellings in files."""

    name: str
    code: int
    spellings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """The two classes of a problem, and the name of their column."""

    column: str
    positive: Label
    negative: Label
    aliases: tuple[str, ...] = ()

    def code_of(self, spelling: str) -> int | None:
        """Code of a label as a file spells it; None if it is neither class.

        A code may be any decimal text of its number, such as ``1.0``.
        """
        word = spelling.strip().casefold()
        if is_number(word) and (number := float(word)).is_integer():
            word = str(int(number))
        for label in (self.positive, self.negative):
            if word in label.spellings:
                return label.code
        return None

    def is_column(self, name: str) -> bool:
        """Whether a name means the column of labels."""
        names = {fold(alias) for alias in (self.column, *self.aliases)}
        return len(name) <= MAX_NAME_LENGTH and fold(name) in names

    @property
    def codes(self) -> dict[str, str]:
        """Name of the label of each code that files may have."""
        return {
            spelling: label.name
            for label in (self.positive, self.negative)
            for spelling in label.spellings
            if is_number(spelling)
        }

    def with_codes(self, codes: Mapping[str, str]) -> Labels:
        """The same labels for a file in which other codes, or codes otherwise, mean them.

        Parameters
        ----------
        codes : mapping of str to str
            A whole number for each label's name, as `bc_pipeline.label_codes` reads them.
        """
        positive, negative = (
            Label(
                label.name,
                label.code,
                (
                    *(word for word in label.spellings if not is_number(word)),
                    *(code for code, name in codes.items() if name == label.name),
                ),
            )
            for label in (self.positive, self.negative)
        )
        return Labels(self.column, positive, negative, self.aliases)

    def to_positive(self, codes: np.ndarray) -> np.ndarray:
        """Translate codes to 1 for the positive class and 0 for the other.

        Parameters
        ----------
        codes : array of int, shape (n,)

        Returns
        -------
        array of int8, shape (n,)
        """
        import numpy as np

        positive: np.ndarray = np.asarray(codes) == self.positive.code
        return positive.astype(np.int8)

    def code(self, is_positive: bool) -> int:
        """Code of a decision."""
        return self.positive.code if is_positive else self.negative.code

    def name(self, is_positive: bool) -> str:
        """Label name of a decision."""
        return self.positive.name if is_positive else self.negative.name

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, as in a manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Labels:
        """Read the form that `to_dict` returns."""
        return msgspec.convert(plain, cls)
