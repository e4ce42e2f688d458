"""A model in memory: verified, warmed up, and with all that a request needs of it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from bc_pipeline import clock
from bc_pipeline.artifacts.manifest import DecisionRule, Manifest
from bc_pipeline.artifacts.predictors import Predictor, load_predictor
from bc_pipeline.artifacts.signed_bundle import VersionFiles, open_version
from bc_pipeline.explanation.explainer import CENTRE, MEDIANS, Explainer
from bc_pipeline.labels import Labels
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.serving.model.version_checks import validated_schema
from bc_pipeline.serving.request_parsing.fast_record import Bounds
from bc_pipeline.serving.request_parsing.fast_table import FastTableParser
from bc_pipeline.serving.request_parsing.record import RecordParser
from bc_pipeline.settings import Settings

ModelSource = Literal["registry", "folder"]


@dataclass(frozen=True)
class LoadedModel:
    """One verified and warmed-up model.

    Attributes
    ----------
    schema : FeatureSchema
        Of the manifest, which builds a new one at each access.
    example : tuple of float
        A plausible record, for the documentation.
    source : {"registry", "folder"}
        Whether the registry names it, or the service was started with its folder.
    generation : int
        Generation of the registry; 0 for a folder.
    training_range : Bounds
        Minimum and maximum of each feature in the training rows.
    tables : FastTableParser
        Parses the usual tables of other protocols.
    pack_values : callable
        Packs the values of a row as little-endian doubles, the form that predictor and
        prediction log use.
    headers : tuple of (bytes, bytes)
        Response headers that identify this model.
    """

    predictor: Predictor
    manifest: Manifest
    manifest_sha256: str
    decision_rule: DecisionRule
    schema: FeatureSchema
    parser: RecordParser
    tables: FastTableParser
    example: tuple[float, ...]
    source: ModelSource
    generation: int
    loaded_at: datetime
    training_range: Bounds
    pack_values: Callable[..., bytes]
    headers: tuple[tuple[bytes, bytes], ...]

    def outside_training_range(self, values: Sequence[float]) -> list[str]:
        """Names of the features whose value lies outside the range of the training rows."""
        names = self.schema.names
        return [names[position] for position in self.training_range.outside(values)]

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def labels(self) -> Labels:
        return self.decision_rule.labels

    @cached_property
    def explainer(self) -> Explainer:
        """Built on first use: most workers never explain."""
        return Explainer(
            self.predictor.positive,
            self.schema.names,
            reference_record(self.manifest),
            training_ranges(self.manifest),
            self.manifest.lineage.train_rows,
            MEDIANS if self.manifest.training_median else CENTRE,
        )


def training_ranges(manifest: Manifest) -> np.ndarray:
    """Minimum and maximum of each feature in the training rows, in the order of the schema.

    Returns
    -------
    ndarray of float64, shape (features, 2)
    """
    names = manifest.feature_schema.names
    return np.array([manifest.training_range[name] for name in names], dtype=np.float64)


def reference_record(manifest: Manifest) -> tuple[float, ...]:
    """The record that explanations compare with: the median of each feature in training.

    A version of an earlier release does not have the medians; there it is the `example_record`.
    """
    medians = manifest.training_median
    if not medians:
        return example_record(manifest)
    return tuple(medians[name] for name in manifest.feature_schema.names)


def example_record(manifest: Manifest) -> tuple[float, ...]:
    """A plausible record: the centre of each feature's training range, to four digits.

    The centre is the geometric mean where the range is positive, because then lengths,
    areas and their ratios fit together.
    """
    values = []
    for low, high in training_ranges(manifest).tolist():
        middle = (low * high) ** 0.5 if low > 0 else (low + high) / 2
        values.append(float(f"{middle:.4g}"))
    return tuple(values)


def load_model(
    files: VersionFiles, problem: str, threads: int, *, source: ModelSource, generation: int
) -> LoadedModel:
    """Load a version, check it against its manifest, and warm it up.

    Raises
    ------
    StoreError
        Where bytes differ from their digests, or do not decrypt.
    SchemaMismatch
        Where its schema contradicts itself.
    ModelError
        Where it does not run, or returns something other than probabilities.
    """
    manifest = files.manifest
    schema = validated_schema(manifest, problem, files.folder)
    predictor = load_predictor(files, threads=threads)
    example, ranges = example_record(manifest), training_ranges(manifest)
    rule = manifest.decision_rule
    _warm_up(predictor, rule, np.array([example]), ranges)
    parser = RecordParser(schema, manifest.label_set)
    return LoadedModel(
        predictor=predictor,
        manifest=manifest,
        manifest_sha256=files.manifest_sha256,
        decision_rule=rule,
        schema=schema,
        parser=parser,
        tables=FastTableParser(parser.fast),
        example=example,
        source=source,
        generation=generation,
        loaded_at=clock.now(),
        training_range=Bounds(ranges[:, 0].tolist(), ranges[:, 1].tolist()),
        pack_values=struct.Struct(f"<{len(schema.names)}d").pack,
        headers=(
            (b"x-model-version", manifest.version.encode()),
            (b"x-manifest-sha256", files.manifest_sha256.encode()),
        ),
    )


def load_folder(folder: Path, settings: Settings) -> LoadedModel:
    """Load the signed version in a folder; it need not be published.

    Raises
    ------
    StoreError
        Where it is not signed, or bytes differ from their digests, or do not decrypt.
    SchemaMismatch
        Where its schema contradicts itself.
    ModelError
        Where the model does not run.
    ConfigError
        Where the key that verifies or decrypts it is missing.
    """
    files = open_version(folder, settings.verify_key, settings.artifact_cipher())
    return load_model(
        files, settings.service_problem, settings.threads, source="folder", generation=0
    )


def _warm_up(
    predictor: Predictor, rule: DecisionRule, example: np.ndarray, ranges: np.ndarray
) -> None:
    """Predict one row, then several: the example and both ends of the training range."""
    for rows in (example, np.vstack([ranges.T, example])):
        rule.are_positive(predictor.positive(rows), len(rows))
