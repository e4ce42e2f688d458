"""Names, aliases, units and ranges of the features, and what a label may look like.

One definition for landed data, manifests, expectation suites and the service. This is
also the one place where scikit-learn's label code meets ours: outside, 0 is malignant
and 1 is benign; inside, the positive class is 1.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from bc_pipeline.errors import Defect, SchemaMismatch

if TYPE_CHECKING:
    import numpy as np

ID_COLUMN = "id"


def fold(name: str) -> str:
    """Fold a column name so that case, spaces, dots and underscores do not matter."""
    return "".join(char for char in name.casefold() if char.isalnum())


@dataclass(frozen=True, slots=True)
class Feature:
    """One measured input.

    Attributes
    ----------
    name : str
        Canonical name.
    unit : str
        Unit of measurement; ``"1"`` for a dimensionless number.
    minimum, maximum : float
        Wide physical limits: outside them a value is a mistake, not a rare patient.
    aliases : tuple of str
        Other names the same feature goes by.
    """

    name: str
    unit: str
    minimum: float
    maximum: float
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """One class: its word, its code outside, and how files spell it."""

    name: str
    code: int
    spellings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """The two classes of a problem and the column they stand in."""

    column: str
    positive: Label
    negative: Label
    aliases: tuple[str, ...] = ()

    def code_of(self, spelling: str) -> int | None:
        """Outside code of a label as a file spells it; None if it is neither class."""
        word = spelling.strip().casefold()
        for label in (self.positive, self.negative):
            if word in label.spellings:
                return label.code
        return None

    def to_positive(self, codes: np.ndarray) -> np.ndarray:
        """Translate outside codes to 1 for the positive class and 0 for the other.

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
        """Outside code of a decision."""
        return self.positive.code if is_positive else self.negative.code

    def name(self, is_positive: bool) -> str:
        """Word for a decision."""
        return self.positive.name if is_positive else self.negative.name

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, as a manifest carries it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Labels:
        """Read the form that `to_dict` writes."""
        positive, negative = (
            Label(**(plain[side] | {"spellings": tuple(plain[side]["spellings"])}))
            for side in ("positive", "negative")
        )
        return cls(plain["column"], positive, negative, tuple(plain["aliases"]))


@dataclass(frozen=True, slots=True)
class RowRule:
    """A relation between features of one row that holds by how they are measured.

    Attributes
    ----------
    name : str
    kind : {"at_least", "ratio", "zero_together"}
        ``at_least``: left >= right. ``ratio``: low <= left / (scale * right ** power)
        <= high wherever right is positive. ``zero_together``: left is zero exactly when
        right is.
    left, right : str
        Feature names.
    """

    name: str
    kind: Literal["at_least", "ratio", "zero_together"]
    left: str
    right: str
    scale: float = 1.0
    power: float = 1.0
    low: float = -math.inf
    high: float = math.inf

    def broken(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Which rows break the rule.

        Parameters
        ----------
        left, right : array of float, shape (n,)

        Returns
        -------
        array of bool, shape (n,)
        """
        import numpy as np

        if self.kind == "at_least":
            return np.asarray(left < right)
        if self.kind == "zero_together":
            return np.asarray((left == 0) != (right == 0))
        ratio = self.ratio(left, right)
        return np.asarray((right > 0) & ~((ratio >= self.low) & (ratio <= self.high)))

    def ratio(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """What a ``ratio`` rule bounds: left / (scale * right ** power), per row.

        Parameters
        ----------
        left, right : array of float, shape (n,)

        Returns
        -------
        array of float, shape (n,)
        """
        import numpy as np

        with np.errstate(all="ignore"):
            return np.asarray(left / (self.scale * right**self.power))

    @property
    def reason(self) -> str:
        if self.kind == "at_least":
            return f"{self.left} is below {self.right}"
        if self.kind == "zero_together":
            return f"only one of {self.left} and {self.right} is zero"
        return (
            f"{self.left} and {self.right} do not fit together "
            f"(rule {self.name}: a unit or a column may be wrong)"
        )


@dataclass(frozen=True)
class FeatureSchema:
    """The features in their fixed order, and the rules between them."""

    features: tuple[Feature, ...]
    rules: tuple[RowRule, ...] = ()
    id_aliases: tuple[str, ...] = field(default=(ID_COLUMN,))

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @cached_property
    def _by_folded(self) -> dict[str, str]:
        return {
            fold(alias): feature.name
            for feature in self.features
            for alias in (feature.name, *feature.aliases)
        }

    @cached_property
    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Physical limits of the features, lower and upper, each of shape (n_features,)."""
        import numpy as np

        return (
            np.array([feature.minimum for feature in self.features]),
            np.array([feature.maximum for feature in self.features]),
        )

    def canonical(self, name: str) -> str | None:
        """Canonical feature name of any dialect's name; None if it is no feature."""
        return self._by_folded.get(fold(name))

    def is_id(self, name: str) -> bool:
        return fold(name) in {fold(alias) for alias in self.id_aliases}

    def suggest(self, name: str) -> str | None:
        """The feature that an unknown name probably means."""
        close = difflib.get_close_matches(fold(name), self._by_folded, n=1, cutoff=0.75)
        return self._by_folded[close[0]] if close else None

    def name_defects(self, given: Iterable[str]) -> list[Defect]:
        """Everything that is wrong with a set of feature names: unknown, twice, missing."""
        defects: list[Defect] = []
        seen: dict[str, str] = {}
        for name in given:
            feature = self.canonical(name)
            if feature is None:
                hint = self.suggest(name)
                asked = f"; did you mean {hint!r}?" if hint else ""
                defects.append(Defect(f"is not a feature{asked}", column=name))
            elif feature in seen:
                defects.append(
                    Defect(f"is given twice, as {seen[feature]!r} and {name!r}", column=feature)
                )
            else:
                seen[feature] = name
        defects += [Defect("is missing", column=name) for name in self.names if name not in seen]
        return defects

    def resolve(self, given: Sequence[str], source: str = "input") -> dict[str, str]:
        """Map each canonical feature name to the name given for it.

        Raises
        ------
        SchemaMismatch
            Listing every unknown, repeated and missing name.
        """
        defects = self.name_defects(given)
        if defects:
            raise SchemaMismatch(
                f"{source} does not have the {len(self.features)} features.",
                source=source,
                defects=tuple(defects),
            )
        return {feature: name for name in given if (feature := self.canonical(name))}

    def row_defects(self, values: np.ndarray) -> dict[int, list[Defect]]:
        """Defects of each bad row: not finite, outside the physical range, rule broken.

        Parameters
        ----------
        values : array of float64, shape (n, n_features)
            In schema order; NaN stands for a missing value.

        Returns
        -------
        dict of int to list of Defect
            Keyed by row index from 0; only bad rows. ``line`` of the defects is unset:
            the reader knows it.
        """
        import numpy as np

        found: dict[int, list[Defect]] = {}

        def note(rows: np.ndarray, column: str | None, reason: str) -> None:
            for row in np.flatnonzero(rows):
                found.setdefault(int(row), []).append(Defect(reason, column=column))

        usable = np.isfinite(values)
        minimum, maximum = self._limits
        outside = usable & ((values < minimum) | (values > maximum))
        # Nearly every column of nearly every table is sound: only the others are looked at.
        for index in np.flatnonzero((outside | ~usable).any(axis=0)):
            feature, column = self.features[index], values[:, index]
            note(np.isnan(column), feature.name, "is missing or not a number")
            note(np.isinf(column), feature.name, "is not a finite number")
            note(
                outside[:, index],
                feature.name,
                f"is outside the physical range {feature.minimum:g} to {feature.maximum:g}"
                + (f" {feature.unit}" if feature.unit != "1" else ""),
            )
        usable &= ~outside
        position = {name: index for index, name in enumerate(self.names)}
        for rule in self.rules:
            left, right = position[rule.left], position[rule.right]
            both = usable[:, left] & usable[:, right]
            note(both & rule.broken(values[:, left], values[:, right]), rule.left, rule.reason)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, as a manifest carries it."""
        return {
            "features": [
                {
                    "name": feature.name,
                    "unit": feature.unit,
                    "minimum": feature.minimum,
                    "maximum": feature.maximum,
                    "aliases": list(feature.aliases),
                }
                for feature in self.features
            ],
            "rules": [
                {
                    "name": rule.name,
                    "kind": rule.kind,
                    "left": rule.left,
                    "right": rule.right,
                    "scale": rule.scale,
                    "power": rule.power,
                    # JSON has no infinity: an open side is null.
                    "low": rule.low if math.isfinite(rule.low) else None,
                    "high": rule.high if math.isfinite(rule.high) else None,
                }
                for rule in self.rules
            ],
            "id_aliases": list(self.id_aliases),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FeatureSchema:
        """Read the form that `to_dict` writes."""
        return cls(
            features=tuple(
                Feature(**(entry | {"aliases": tuple(entry["aliases"])}))
                for entry in plain["features"]
            ),
            rules=tuple(
                RowRule(
                    **(
                        entry
                        | {
                            "low": -math.inf if entry["low"] is None else entry["low"],
                            "high": math.inf if entry["high"] is None else entry["high"],
                        }
                    )
                )
                for entry in plain["rules"]
            ),
            id_aliases=tuple(plain["id_aliases"]),
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names, order, ranges and rules: what a model was made for."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def row_key(values: Sequence[float]) -> str:
    """Name of a row that depends on its feature values alone.

    Two files that hold the same patient under different ids, or none, give one key, so a
    row can neither be counted twice nor stand on both sides of the split.

    Parameters
    ----------
    values : sequence of float
        In schema order. Six significant digits count: more than any dialect carries.
    """
    text = ",".join(f"{value + 0.0:.6g}" for value in values)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
