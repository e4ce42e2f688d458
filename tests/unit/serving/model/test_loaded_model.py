from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bc_pipeline import clock
from bc_pipeline.artifacts.signed_bundle import MODEL, encrypt_if_model, open_version
from bc_pipeline.encryption import load_cipher
from bc_pipeline.errors import (
    ArtifactCorrupt,
    DecryptionFailed,
    DegenerateModel,
    ModelError,
    SchemaMismatch,
    SignatureInvalid,
)
from bc_pipeline.explanation.explainer import CENTRE
from bc_pipeline.serving.model import loaded_model
from bc_pipeline.serving.model.loaded_model import (
    LoadedModel,
    example_record,
    load_folder,
    load_model,
)
from bc_pipeline.settings import Settings

Load = Callable[..., LoadedModel]


@pytest.fixture
def load(releases: Any, fitted: Any, settings: Settings) -> Load:
    """Load a version whose manifest's fields may be changed."""

    def load(graph: bytes | None = None, **changes: Any) -> LoadedModel:
        fit = fitted[0] if graph is None else replace(fitted[0], graph=graph)
        folder = releases.challenger("v1", fit, **changes)
        files = open_version(folder, settings.verify_key)
        return load_model(files, "wdbc", 1, source="registry", generation=7)

    return load


def test_a_loaded_model_has_what_requests_need(
    load: Load, fitted: Any, reference: Any, wdbc: Any
) -> None:
    model = load()
    assert (model.version, model.source, model.generation) == ("v1", "registry", 7)
    assert model.labels == wdbc.labels
    assert timedelta() <= clock.now() - model.loaded_at < timedelta(minutes=5)
    assert dict(model.headers) == {
        b"x-model-version": b"v1",
        b"x-manifest-sha256": model.manifest_sha256.encode(),
    }
    row = reference[0][0].tolist()
    assert model.pack_values(*row) == struct.pack("<30d", *row)
    sample = model.parser.read(msgspec.json.encode({"features": row}))
    assert list(sample.values) == row
    np.testing.assert_allclose(
        model.predictor.positive(reference[0]), fitted[0].probability, rtol=0, atol=1e-12
    )


def test_the_training_range_is_that_of_the_manifest(load: Load, wdbc: Any) -> None:
    model = load()
    names, ranges = wdbc.schema.names, model.manifest.training_range
    lowest = [ranges[name][0] for name in names]
    highest = [ranges[name][1] for name in names]
    assert model.outside_training_range(lowest) == model.outside_training_range(highest) == []
    for position in (0, 17, 29):
        for row, towards in ((lowest, -np.inf), (highest, np.inf)):
            changed = [*row]
            changed[position] = float(np.nextafter(row[position], towards))
            assert model.outside_training_range(changed) == [names[position]]
    above = [float(np.nextafter(value, np.inf)) for value in highest]
    assert model.outside_training_range(above) == list(names)


def test_the_explainer_is_built_once_and_explains_this_model(load: Load, reference: Any) -> None:
    model = load()
    assert model.explainer is model.explainer
    row = reference[0][0]
    explanation = model.explainer.explain(row.tolist())
    assert explanation.reference_values == model.manifest.training_median
    assert list(explanation.reference_values) == list(model.manifest.feature_schema.names)


def test_a_version_without_medians_is_explained_from_the_centre(load: Load, reference: Any) -> None:
    """Versions of release 0.1.0 have none."""
    model = load(training_median={})
    explanation = model.explainer.explain(reference[0][0].tolist())
    assert explanation.reference == CENTRE
    assert tuple(explanation.reference_values.values()) == model.example


def test_the_example_is_the_centre_of_the_training_range(releases: Any, wdbc: Any) -> None:
    names = wdbc.schema.names
    ranges = dict.fromkeys(names, (1.0, 3.0))
    # Geometric where it can be, to four digits.
    ranges[names[0]] = (4.0, 9.0)
    ranges[names[1]] = (0.0, 9.0)
    ranges[names[2]] = (-1.0, 4.0)
    ranges[names[3]] = (12345.678, 12345.678)
    example = example_record(msgspec.structs.replace(releases.draft("v1"), training_range=ranges))
    assert example[:5] == (6.0, 4.5, 1.5, 12350.0, 1.732)


def test_the_example_is_a_valid_record(releases: Any, wdbc: Any) -> None:
    row = np.array([example_record(releases.draft("v1"))])
    assert wdbc.schema.row_defects(row) == {}


class Predictor:
    """Gives one probability for a chosen row, and another for all others."""

    def __init__(self, chosen: list[float], answer: float) -> None:
        self.chosen, self.answer = chosen, answer
        self.shapes: list[tuple[int, ...]] = []

    def positive(self, rows: np.ndarray) -> np.ndarray:
        self.shapes.append(rows.shape)
        return np.where((rows == self.chosen).all(axis=1), self.answer, 0.5)


def chosen_row(name: str, releases: Any, wdbc: Any) -> list[float]:
    manifest = releases.draft("v1")
    if name == "example":
        return list(example_record(manifest))
    end = ("lowest", "highest").index(name)
    return [manifest.training_range[feature][end] for feature in wdbc.schema.names]


@pytest.mark.parametrize("row", ["example", "lowest", "highest"])
@pytest.mark.parametrize("answer", [np.nan, 1.5, -0.1, 1 + 1e-9, -1e-9])
def test_a_model_that_answers_no_probability_anywhere_in_the_warm_up_is_refused(
    load: Load,
    releases: Any,
    wdbc: Any,
    monkeypatch: pytest.MonkeyPatch,
    row: str,
    answer: float,
) -> None:
    predictor = Predictor(chosen_row(row, releases, wdbc), answer)
    monkeypatch.setattr(loaded_model, "load_predictor", lambda *_, **__: predictor)
    with pytest.raises(DegenerateModel, match="v1 did not return one probability") as refused:
        load()
    assert refused.value.candidate == "logistic"


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_certain_answers_are_probabilities(
    load: Load, releases: Any, wdbc: Any, monkeypatch: pytest.MonkeyPatch, answer: float
) -> None:
    predictor = Predictor(chosen_row("example", releases, wdbc), answer)
    monkeypatch.setattr(loaded_model, "load_predictor", lambda *_, **__: predictor)
    assert load().predictor is predictor
    assert predictor.shapes == [(1, 30), (3, 30)]


@pytest.mark.parametrize(
    "answers",
    [
        lambda rows: np.full((len(rows), 1), 0.5),
        lambda rows: np.full(1, 0.5),
        lambda rows: np.full(3, 0.5),
        lambda rows: np.float64(0.5),
    ],
)
def test_a_model_that_does_not_answer_row_by_row_is_refused(
    load: Load, monkeypatch: pytest.MonkeyPatch, answers: Callable[[np.ndarray], Any]
) -> None:
    class Shapeless:
        positive = staticmethod(answers)

    monkeypatch.setattr(loaded_model, "load_predictor", lambda *_, **__: Shapeless())
    with pytest.raises(DegenerateModel):
        load()


def test_the_predictor_gets_the_files_and_the_number_of_threads(
    releases: Any, fitted: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def load_predictor(files: Any, *, threads: int) -> Predictor:
        calls.append((files, threads))
        return Predictor([0.0] * 30, 0.5)

    monkeypatch.setattr(loaded_model, "load_predictor", load_predictor)
    files = open_version(releases.challenger("v1", fitted[0]), settings.verify_key)
    load_model(files, "wdbc", 3, source="folder", generation=0)
    assert calls == [(files, 3)]


def test_a_manifest_that_contradicts_itself_is_refused(load: Load) -> None:
    with pytest.raises(SchemaMismatch):
        load(training_range={})


def test_a_graph_of_another_width_is_refused(load: Load, fitted: Any, reference: Any) -> None:
    from sklearn.base import clone

    from bc_pipeline.artifacts.export import export_onnx

    values, codes = reference
    narrow = clone(fitted[0].estimator).fit(values[:, :29], (codes == 0).astype(int))
    with pytest.raises(ModelError):
        load(export_onnx(narrow, 29))


def test_a_file_that_is_no_graph_is_refused(load: Load) -> None:
    with pytest.raises(ModelError):
        load(b"no graph")


def test_a_folder_is_loaded_without_being_published(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    model = load_folder(releases.challenger("unpublished", fitted[2]), settings)
    assert (model.version, model.source, model.generation) == ("unpublished", "folder", 0)


def test_a_folder_is_verified_like_a_champion(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    folder = releases.challenger("unpublished", fitted[2])
    (folder / MODEL).write_bytes(fitted[1].graph)
    with pytest.raises(ArtifactCorrupt):
        load_folder(folder, settings)
    (folder / "manifest.sig").unlink()
    with pytest.raises(SignatureInvalid):
        load_folder(folder, settings)


def test_a_folder_of_another_problem_is_refused(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    folder = releases.challenger("unpublished", fitted[2], problem="other")
    with pytest.raises(ArtifactCorrupt, match="not 'wdbc'"):
        load_folder(folder, settings)


def test_an_encrypted_folder_needs_its_key(
    releases: Any, fitted: Any, settings: Settings, tmp_path: Path
) -> None:
    key = tmp_path / "artifact_key"
    key.write_text("ab" * 32)
    graph = encrypt_if_model("v1", MODEL, fitted[0].graph, load_cipher(key, "BC_ARTIFACT_KEY_FILE"))
    folder = releases.challenger("v1", replace(fitted[0], graph=graph))
    with pytest.raises(DecryptionFailed):
        load_folder(folder, settings)
    with_key = settings.model_copy(update={"artifact_key_file": key})
    assert load_folder(folder, with_key).version == "v1"
