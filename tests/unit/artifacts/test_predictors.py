from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from bc_pipeline.artifacts import signed_bundle
from bc_pipeline.artifacts.predictors import (
    Predictor,
    load_predictor,
    make_session,
    require_fit,
)
from bc_pipeline.errors import ArtifactCorrupt, ModelError, SchemaMismatch


@pytest.fixture
def files(releases: Any, fitted: Any) -> signed_bundle.VersionFiles:
    releases.publish("v", fitted[2])
    folder = releases.store.version("v")
    return signed_bundle.open_version(folder, releases.settings.verify_key)


@pytest.fixture
def predictor(files: signed_bundle.VersionFiles) -> Predictor:
    return load_predictor(files)


def test_probabilities_are_those_of_the_estimator(
    predictor: Predictor, fitted: Any, reference: Any
) -> None:
    found = predictor.positive(reference[0])
    assert found.shape == (569,)
    assert found.dtype == np.float64
    assert np.abs(found - fitted[2].probability).max() <= 1e-12


def test_probabilities_do_not_depend_on_the_batch_size(
    predictor: Predictor, reference: Any
) -> None:
    values = reference[0]
    together = predictor.positive(values)
    alone = np.concatenate([predictor.positive(values[[row]]) for row in range(len(values))])
    assert np.abs(together - alone).max() <= 1e-12


def test_a_single_row_has_the_probability_it_has_in_an_array(
    predictor: Predictor, reference: Any
) -> None:
    alone = [predictor.positive_one(row) for row in reference[0].tolist()]
    assert np.abs(predictor.positive(reference[0]) - alone).max() <= 1e-15


def test_a_single_row_in_the_runtime_has_identical_bits(
    files: signed_bundle.VersionFiles, fitted: Any, reference: Any
) -> None:
    predictor = Predictor(files.manifest, make_session(fitted[2].graph))
    for row in reference[0]:
        assert predictor.positive_one(row.tolist()) == predictor.positive(row[None])[0]


def test_rows_in_any_memory_order_and_none_at_all(predictor: Predictor, reference: Any) -> None:
    values = reference[0]
    expected = predictor.positive(values)
    assert np.array_equal(predictor.positive(np.asfortranarray(values)), expected)
    assert predictor.positive(values[::2]).shape == (285,)
    assert predictor.positive(values[:0]).shape == (0,)


def test_rows_of_another_shape_are_refused(predictor: Predictor, reference: Any) -> None:
    values = reference[0]
    for wrong in (values[0], values[:, :29], values[None]):
        with pytest.raises(SchemaMismatch, match="rows of 30 values"):
            predictor.positive(wrong)
    for hole in (np.nan, np.inf):
        broken = values[:3].copy()
        broken[1, 4] = hole
        with pytest.raises(SchemaMismatch, match="finite"):
            predictor.positive(broken)


def test_threads_may_share_a_predictor(files: signed_bundle.VersionFiles, reference: Any) -> None:
    predictor = load_predictor(files, threads=2)
    expected = predictor.positive(reference[0])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predictor.positive, [reference[0]] * 40))
    assert all(np.array_equal(one, expected) for one in found)


def test_an_altered_graph_is_not_loaded(files: signed_bundle.VersionFiles) -> None:
    path = files.folder / signed_bundle.MODEL
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactCorrupt):
        load_predictor(files)


def test_a_graph_that_does_not_fit_its_manifest_is_refused(
    files: signed_bundle.VersionFiles, reference: Any, wdbc: Any
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from bc_pipeline.artifacts.export import export_onnx

    values, codes = reference[0][:, :29], wdbc.labels.to_positive(reference[1])
    narrow = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    graph = export_onnx(narrow.fit(values, codes), 29)
    with pytest.raises(ModelError, match="manifest has 30 features"):
        require_fit(make_session(graph), files.manifest)
    with pytest.raises(ModelError, match="does not take the graph"):
        make_session(b"")


def test_loading_a_predictor_imports_no_training_library(
    files: signed_bundle.VersionFiles, releases: Any
) -> None:
    script = (
        "import sys, numpy\n"
        "from pathlib import Path\n"
        "from bc_pipeline.artifacts.predictors import load_predictor\n"
        "from bc_pipeline.artifacts.signed_bundle import open_version\n"
        "model = load_predictor(open_version(Path(sys.argv[1]), Path(sys.argv[2])))\n"
        "model.positive(numpy.ones((1, 30)))\n"
        "heavy = {'sklearn', 'pandas', 'scipy', 'joblib', 'onnx', 'mlflow', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, files.folder, releases.settings.verify_key],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
