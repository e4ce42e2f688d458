"""The features of a problem: names, aliases, units, ranges, and the rules between them.

The one definition for landed data, manifests, expectation suites and the service.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from bc_pipeline.errors import ConfigError, Defect
from bc_pipeline.names import CLOSE_WORD, ID_COLUMN, MAX_NAME_LENGTH, MISSING, fold, is_word_of
from bc_pipeline.row_rule import RowRule
from bc_pipeline.sample_metadata import MetadataColumn

if TYPE_CHECKING:
    import numpy as np

_OTHER_COLUMNS = 1000
# A feature is suggested for an unknown name if it resembles the name by this much more than
# any other feature does.
_CLEARLY_BETTER = 0.06


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
        Physical limits, wide enough for rare patients: a value outside is a mistake.
    aliases : tuple of str
        Other accepted names.
    optional : bool
        Whether it may be missing: no column, an empty cell or null, which is NaN in arrays.
    """

    name: str
    unit: str
    minimum: float
    maximum: float
    aliases: tuple[str, ...] = ()
    optional: bool = False


_UNBOUNDED: dict[str, Any] = {"low": -math.inf, "high": math.inf}


@dataclass(frozen=True)
class FeatureSchema:
    """The features in their fixed order, the rules between them, and other columns of files.

    Attributes
    ----------
    metadata : tuple of MetadataColumn
        Not part of the fingerprint: no model depends on them.

    Raises
    ------
    ConfigError
        Listing every name that means several columns, and every rule about no feature.
    """

    features: tuple[Feature, ...]
    rules: tuple[RowRule, ...] = ()
    id_aliases: tuple[str, ...] = field(default=(ID_COLUMN,))
    metadata: tuple[MetadataColumn, ...] = ()

    def __post_init__(self) -> None:
        mistakes = [*self._ambiguous_names(), *self._rules_without_features()]
        if mistakes:
            raise ConfigError(f"The feature schema is not usable: {'; '.join(mistakes)}.")

    def _ambiguous_names(self) -> list[str]:
        """Names and aliases that, folded, mean more than one column."""
        meanings: dict[str, list[str]] = {}
        named = [
            *((feature.name, (feature.name, *feature.aliases)) for feature in self.features),
            (ID_COLUMN, self.id_aliases),
            *((column.name, (column.name, *column.aliases)) for column in self.metadata),
        ]
        for meaning, names in named:
            for folded in dict.fromkeys(map(fold, names)):
                meanings.setdefault(folded, []).append(meaning)
        return [
            f"{folded!r} means {' and '.join(several)}"
            for folded, several in meanings.items()
            if len(several) > 1
        ]

    def _rules_without_features(self) -> list[str]:
        names = {feature.name for feature in self.features}
        return [
            f"rule {rule.name} is about {name!r}, which is no feature"
            for rule in self.rules
            for name in (rule.left, rule.right)
            if name not in names
        ]

    @property
    def column_limit(self) -> int:
        """The most columns, or members of a record, that are read."""
        return len(self.features) + _OTHER_COLUMNS

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
        return self._by_folded.get(fold(name)) if len(name) <= MAX_NAME_LENGTH else None

    def is_id(self, name: str) -> bool:
        return len(name) <= MAX_NAME_LENGTH and fold(name) in {
            fold(alias) for alias in self.id_aliases
        }

    @cached_property
    def _metadata_by_folded(self) -> dict[str, MetadataColumn]:
        return {
            fold(alias): column
            for column in self.metadata
            for alias in (column.name, *column.aliases)
        }

    def metadata_column(self, name: str) -> MetadataColumn | None:
        """The column of metadata that a name means; None if it means none."""
        return self._metadata_by_folded.get(fold(name)) if len(name) <= MAX_NAME_LENGTH else None

    @cached_property
    def _words(self) -> frozenset[str]:
        """The parts of the names of features and ids."""
        aliases = (alias for feature in self.features for alias in (feature.name, *feature.aliases))
        names = " ".join((*aliases, *self.id_aliases)).lower()
        return frozenset(re.findall("[a-z]+", names))

    def may_be_shown(self, name: str) -> bool:
        """Whether messages may repeat a name: it is put together from the words of the schema."""
        return is_word_of(name, self._words)

    def suggest(self, name: str) -> str | None:
        """The feature that an unknown name probably means; None where several are as likely."""
        if not self.may_be_shown(name):
            return None
        folded = fold(name)
        ratios: dict[str, float] = {}
        for close in difflib.get_close_matches(folded, self._by_folded, n=50, cutoff=0.69):
            ratio = difflib.SequenceMatcher(None, close, folded).ratio()
            feature = self._by_folded[close]
            ratios[feature] = max(ratio, ratios.get(feature, 0.0))
        best, *others = sorted(ratios, key=lambda feature: -ratios[feature]) or [""]
        if not best or ratios[best] < CLOSE_WORD:
            return None
        if others and ratios[best] - ratios[others[0]] < _CLEARLY_BETTER:
            return None
        return best

    def unknown_name(self, name: str, hint: str | None) -> Defect:
        """The defect of a name that is no feature.

        Parameters
        ----------
        name : str
            Left out of the defect unless `may_be_shown`.
        hint : str or None
            As `suggest` returned it.
        """
        if not self.may_be_shown(name):
            return Defect("a name that does not resemble those of the features is not a feature")
        suggestion = f"; did you mean {hint!r}?" if hint else ""
        return Defect(f"is not a feature{suggestion}", column=name)

    def missing_names(self, names: Container[str]) -> list[Defect]:
        """Defects of the features that are not among some canonical names."""
        return [
            Defect(MISSING, column=feature.name)
            for feature in self.features
            if not feature.optional and feature.name not in names
        ]

    def has_valid_rows(self, values: np.ndarray) -> bool:
        """Whether no row has a defect; much faster than to find the defects.

        Parameters
        ----------
        values : array of float64, shape (n, n_features)
        """
        import numpy as np

        minimum, maximum = self._limits
        # Comparisons with NaN are false.
        is_valid = (values >= minimum) & (values <= maximum)
        if not is_valid.all():
            if not self._optional:
                return False
            is_valid[:, self._optional] |= np.isnan(values[:, self._optional])
            if not is_valid.all():
                return False
        above, below = self._ordered_pairs
        if (values[:, above] < values[:, below]).any():
            return False
        return not any(
            self._broken(rule, values[:, left], values[:, right]).any()
            for rule, left, right in self._positioned_rules
            if rule.kind != "at_least"
        )

    def _broken(self, rule: RowRule, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Whether each row breaks a rule; one without both of its features does not."""
        import numpy as np

        broken = rule.broken(left, right)
        if not self._optional:
            return broken
        return np.asarray(broken & ~(np.isnan(left) | np.isnan(right)))

    @cached_property
    def _optional(self) -> list[int]:
        """Positions of the features that may be missing."""
        return [index for index, feature in enumerate(self.features) if feature.optional]

    @cached_property
    def _positioned_rules(self) -> list[tuple[RowRule, int, int]]:
        """Each rule with the positions of its features."""
        position = {name: index for index, name in enumerate(self.names)}
        return [(rule, position[rule.left], position[rule.right]) for rule in self.rules]

    @cached_property
    def _ordered_pairs(self) -> tuple[list[int], list[int]]:
        """Positions of the left and of the right features of the rules ``at_least``."""
        pairs = [
            (left, right) for rule, left, right in self._positioned_rules if rule.kind == "at_least"
        ]
        return [left for left, _ in pairs], [right for _, right in pairs]

    def row_defects(self, values: np.ndarray) -> dict[int, list[Defect]]:
        """Defects of each bad row: not finite, outside the physical range, rule broken.

        Parameters
        ----------
        values : array of float64, shape (n, n_features)
            In schema order; NaN stands for a missing value.

        Returns
        -------
        dict of int to list of Defect
            By row index from 0; only rows with defects. Their ``line`` is not set.
        """
        import numpy as np

        if self.has_valid_rows(values):
            return {}
        defects: dict[int, list[Defect]] = {}

        def add(rows: np.ndarray, column: str | None, reason: str) -> None:
            for row in np.flatnonzero(rows):
                defects.setdefault(int(row), []).append(Defect(reason, column=column))

        usable = np.isfinite(values)
        minimum, maximum = self._limits
        outside = usable & ((values < minimum) | (values > maximum))
        # Most columns have no defect: only the others are examined.
        for index in np.flatnonzero((outside | ~usable).any(axis=0)):
            feature, column = self.features[index], values[:, index]
            if not feature.optional:
                add(np.isnan(column), feature.name, "is missing or not a number")
            add(np.isinf(column), feature.name, "is not a finite number")
            add(
                outside[:, index],
                feature.name,
                f"is outside the physical range {feature.minimum:g} to {feature.maximum:g}"
                + (f" {feature.unit}" if feature.unit != "1" else ""),
            )
        usable &= ~outside
        for rule, left, right in self._positioned_rules:
            both = usable[:, left] & usable[:, right]
            add(both & rule.broken(values[:, left], values[:, right]), rule.left, rule.reason)
        return defects

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, as in a manifest."""
        plain = asdict(self)
        if not self.metadata:
            del plain["metadata"]
        for feature in plain["features"]:
            # As in manifests of earlier releases, whose features are all needed.
            if not feature["optional"]:
                del feature["optional"]
        for rule in plain["rules"]:
            # JSON has no infinity: a missing bound is null.
            rule.update({side: None for side in _UNBOUNDED if math.isinf(rule[side])})
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FeatureSchema:
        """Read the form that `to_dict` returns."""
        features = (one | {"aliases": tuple(one["aliases"])} for one in plain["features"])
        rules = (
            one | {side: bound for side, bound in _UNBOUNDED.items() if one[side] is None}
            for one in plain["rules"]
        )
        return cls(
            tuple(Feature(**one) for one in features),
            tuple(RowRule(**one) for one in rules),
            tuple(plain["id_aliases"]),
            msgspec.convert(plain.get("metadata", ()), tuple[MetadataColumn, ...]),
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of features, their order, and rules: identifies what a model was trained for."""
        plain = self.to_dict()
        plain.pop("metadata", None)
        return json_digest(plain)


def json_digest(value: Any) -> str:
    """SHA-256 of a value's JSON, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def row_key(values: Sequence[float]) -> str:
    """Key of a row, computed from its feature values alone.

    The same patient in two files, with different ids or none, has one key, so that a row is
    neither counted twice nor on both sides of the split.

    Parameters
    ----------
    values : sequence of float
        In schema order; the first six significant digits count.
    """
    text = ",".join(f"{value + 0.0:.6g}" for value in values)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
