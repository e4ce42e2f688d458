from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.artifacts.files import decode_document
from bc_pipeline.artifacts.signed_bundle import VERSION_FILES
from bc_pipeline.evaluation import report
from bc_pipeline.evaluation.importance import Importance, permutation_importance
from bc_pipeline.problems.wdbc import WDBC

pytestmark = pytest.mark.integration

FIGURES = [
    "calibration.png",
    "confusion.png",
    "permutation_importance.png",
    "precision_recall.png",
    "roc.png",
]


@pytest.fixture(scope="module")
def importance(case) -> Importance:
    return permutation_importance(
        case.predict,
        case.holdout.values,
        case.holdout.positive,
        case.problem.schema.names,
        seed=1,
        shuffles=3,
    )


@pytest.fixture(scope="module")
def pair(case) -> Evaluation:
    champion = case.model("v1", positive=lambda v: np.sqrt(case.predict(v)))
    return case.evaluate(case.model("v2"), champion)


def pixels(data: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return imread(io.BytesIO(data))


def test_every_figure_is_drawn_the_same_each_time(pair, importance) -> None:
    drawn = report.draw_figures(WDBC.labels, pair, importance)
    assert sorted(drawn) == FIGURES
    assert report.draw_figures(WDBC.labels, pair, importance) == drawn
    for data in drawn.values():
        assert b"Software" not in data
        assert b"tIME" not in data
        assert pixels(data).std() > 0.05


def test_the_users_configuration_of_matplotlib_has_no_effect(pair, importance) -> None:
    import matplotlib as mpl

    drawn = report.draw_figures(WDBC.labels, pair, importance)
    with mpl.rc_context({"font.size": 20.0, "figure.facecolor": "red"}):
        assert report.draw_figures(WDBC.labels, pair, importance) == drawn
        assert mpl.rcParams["font.size"] == 20.0


def test_the_champion_is_drawn_beside_the_challenger(case, pair, importance) -> None:
    alone = report.draw_figures(WDBC.labels, case.evaluate(case.model("v2")), importance)
    drawn = report.draw_figures(WDBC.labels, pair, importance)
    for name in ("roc.png", "precision_recall.png", "calibration.png", "confusion.png"):
        assert drawn[name] != alone[name]
    assert pixels(drawn["confusion.png"]).shape[1] > 1.5 * pixels(alone["confusion.png"]).shape[1]


def test_pyplot_is_not_imported(pair, importance) -> None:
    before = "matplotlib.pyplot" in sys.modules
    report.draw_figures(WDBC.labels, pair, importance)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_one_class_alone_can_still_be_drawn(case, importance) -> None:
    benign = case.holdout.positive == 0
    rows = type(case.holdout)(
        tuple(key for key, keep in zip(case.holdout.keys, benign, strict=True) if keep),
        case.holdout.values[benign],
        case.holdout.positive[benign],
    )
    drawn = report.draw_figures(
        case.problem.labels, case.evaluate(case.model("v1"), holdout=rows), importance
    )
    assert sorted(drawn) == FIGURES


def test_a_report_has_importance_card_and_figures(case, releases) -> None:
    challenger = SimpleNamespace(manifest=releases.draft("v1"), positive=case.predict)
    evaluation = case.evaluate(case.model("v1"))
    files = report.make_report(case.problem, challenger, evaluation, case.holdout)
    assert sorted(files) == sorted(
        ["card.md", "importance.json", *(f"figures/{name}" for name in FIGURES)]
    )
    assert set(files) <= VERSION_FILES
    assert all(files.values())
    stored = decode_document(files["importance.json"], Importance, Path("importance.json"))
    assert {entry.feature for entry in stored.features} == set(case.problem.schema.names)
    assert stored.rows == len(case.holdout.keys)
    assert msgspec.to_builtins(stored)["shuffles"] == 20
