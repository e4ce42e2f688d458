"""What a person reads of an evaluation: importance, figures and card, in files.

This is the only module that imports matplotlib.

The same evaluation gives the same bytes: the figures are drawn by the object interface
with matplotlib's own defaults, whatever a person's configuration says, and the files carry
no date.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts.evidence import Evaluation, Score, Side
from bc_pipeline.artifacts.files import encode_record, write_atomic
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.sealed import CARD, FIGURES
from bc_pipeline.evaluation.build import LabelledRows, Predict
from bc_pipeline.evaluation.card import model_card
from bc_pipeline.evaluation.importance import IMPORTANCE, Importance, permutation_importance
from bc_pipeline.problems.base import Problem

# Two colours that stay apart for colour-blind readers (Okabe and Ito), and in line style.
# The champion is broad, to be seen where the challenger's curve runs over it.
_CHALLENGER = {"color": "#0072B2", "linestyle": "-", "linewidth": 1.4}
_CHAMPION = {"color": "#D55E00", "linestyle": "--", "linewidth": 3.2}
_QUIET = "#888888"
_DPI = 110
_FEATURES_SHOWN = 15


def write(
    problem: Problem,
    manifest: Manifest,
    evaluation: Evaluation,
    predict: Predict,
    holdout: LabelledRows,
    folder: Path,
) -> tuple[str, ...]:
    """Write importance, figures and model card of a challenger into its folder.

    Parameters
    ----------
    predict : callable
        The challenger's; permutation importance asks it many times.
    holdout : LabelledRows
        The rows that the evaluation is about.

    Returns
    -------
    tuple of str
        Names of the files, relative to `folder`.
    """
    importance = permutation_importance(
        predict,
        holdout.values,
        holdout.positive,
        problem.schema.names,
        seed=problem.gate.bootstrap_seed,
    )
    files = {
        IMPORTANCE: encode_record(importance),
        CARD: model_card(problem, manifest, evaluation, importance).encode(),
    }
    for name, data in draw_figures(evaluation, importance).items():
        files[f"{FIGURES}/{name}"] = data
    for name, data in files.items():
        write_atomic(folder / name, data)
    return tuple(files)


def draw_figures(evaluation: Evaluation, importance: Importance) -> dict[str, bytes]:
    """Draw every figure, the champion beside the challenger where there is one.

    Returns
    -------
    dict of str to bytes
        PNG files by name: ``roc precision_recall confusion calibration
        permutation_importance``, each with ``.png``. A curve that the rows do not define
        is left out of its figure.
    """
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
        return {
            "roc.png": _roc(evaluation),
            "precision_recall.png": _precision_recall(evaluation),
            "confusion.png": _confusion(evaluation),
            "calibration.png": _calibration(evaluation),
            "permutation_importance.png": _importance(importance),
        }


def _sides(evaluation: Evaluation) -> list[tuple[str, Side, dict[str, Any]]]:
    """Champion first, so that the challenger is drawn on top."""
    sides = [("challenger", evaluation.challenger, _CHALLENGER)]
    if evaluation.champion is not None:
        sides.insert(0, ("champion", evaluation.champion, _CHAMPION))
    return sides


def _figure(width: float = 5.2, height: float = 4.8) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _png(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    # Software would name matplotlib's version: other bytes after every update.
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def _both_classes(score: Score) -> bool:
    return 0 < sum(score.positive) < len(score.positive)


def _value(score: Score, metric: str) -> str:
    value = score.metrics[metric]
    return "undefined" if value is None else f"{value:.3f}"


def _roc(evaluation: Evaluation) -> bytes:
    from sklearn.metrics import roc_curve

    figure = _figure()
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=_QUIET, linewidth=0.8, linestyle=":")
    for role, side, style in _sides(evaluation):
        score = side.holdout
        if not _both_classes(score):
            continue
        false_rate, true_rate, _ = roc_curve(score.positive, score.probability)
        label = f"{role}: {side.title}, AUC {_value(score, 'roc_auc')}"
        axes.plot(false_rate, true_rate, label=label, **style)
        axes.plot(
            1.0 - (score.metrics["specificity"] or 0.0),
            score.metrics["sensitivity"],
            marker="o",
            color=style["color"],
        )
    axes.set(
        xlabel="1 - specificity",
        ylabel="sensitivity (malignant)",
        title=f"ROC on {len(evaluation.challenger.holdout.keys)} holdout rows; dots: the threshold",
    )
    _legend(figure, axes)
    return _png(figure)


def _precision_recall(evaluation: Evaluation) -> bytes:
    from sklearn.metrics import precision_recall_curve

    figure = _figure()
    axes = figure.add_subplot()
    for role, side, style in _sides(evaluation):
        score = side.holdout
        if not _both_classes(score):
            continue
        precision, recall, _ = precision_recall_curve(score.positive, score.probability)
        label = f"{role}: {side.title}, F1 {_value(score, 'f1')}"
        axes.plot(recall, precision, label=label, drawstyle="steps-post", **style)
        if score.metrics["precision"] is not None:
            axes.plot(
                score.metrics["sensitivity"],
                score.metrics["precision"],
                marker="o",
                color=style["color"],
            )
    axes.set(
        xlabel="sensitivity (malignant)",
        ylabel="precision",
        ylim=(0.0, 1.03),
        title="Precision and recall on the holdout; dots: the threshold",
    )
    _legend(figure, axes)
    return _png(figure)


def _confusion(evaluation: Evaluation) -> bytes:
    import numpy as np

    sides = _sides(evaluation)
    figure = _figure(3.9 * len(sides), 3.9)
    for number, (role, side, _) in enumerate(sides, start=1):
        found = side.holdout.confusion
        counts = np.array(
            [
                [found.true_positive, found.false_negative],
                [found.false_positive, found.true_negative],
            ]
        )
        axes = figure.add_subplot(1, len(sides), number)
        axes.imshow(counts, cmap="Blues", vmin=0, vmax=max(1, int(counts.sum())))
        for row in range(2):
            for column in range(2):
                count = int(counts[row, column])
                dark = count > counts.sum() / 2
                axes.text(
                    column,
                    row,
                    str(count),
                    ha="center",
                    va="center",
                    fontsize=18,
                    color="white" if dark else "black",
                )
        words = ["malignant", "benign"]
        axes.set_xticks([0, 1], labels=words)
        axes.set_yticks([0, 1], labels=words, rotation=90, va="center")
        axes.set(
            xlabel="called",
            ylabel="true",
            title=f"{role}: {side.title}\nthreshold {side.holdout.threshold:.3f}",
        )
        axes.title.set_fontsize(10)
    return _png(figure)


def _calibration(evaluation: Evaluation) -> bytes:
    figure = _figure()
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=_QUIET, linewidth=0.8, linestyle=":")
    pooled = evaluation.cross_validation
    _reliability(
        axes,
        pooled,
        f"challenger in cross-validation, {len(pooled.keys)} rows, "
        f"error {_value(pooled, 'calibration_error')}",
        {"color": _QUIET, "linestyle": "-", "linewidth": 1.0},
    )
    for role, side, style in _sides(evaluation):
        error = _value(side.holdout, "calibration_error")
        rows = len(side.holdout.keys)
        _reliability(axes, side.holdout, f"{role} on the holdout, {rows} rows, {error}", style)
    axes.set(
        xlabel="mean probability of malignant in the bin",
        ylabel="share that is malignant",
        title="Calibration; the larger a dot, the more rows",
    )
    _legend(figure, axes)
    return _png(figure)


def _reliability(axes: Any, score: Score, label: str, style: dict[str, Any]) -> None:
    filled = [part for part in score.calibration if part.rows > 0]
    across = [part.mean_probability for part in filled]
    up = [part.observed_share for part in filled]
    axes.plot(across, up, label=label, **style)
    axes.scatter(across, up, s=[8 + 2 * part.rows for part in filled], color=style["color"])


def _importance(importance: Importance) -> bytes:
    shown = importance.features[:_FEATURES_SHOWN]
    figure = _figure(6.6, 0.9 + 0.32 * len(shown))
    axes = figure.add_subplot()
    places = list(range(len(shown)))
    axes.barh(
        places,
        [entry.mean for entry in shown],
        xerr=[entry.deviation for entry in shown],
        height=0.6,
        color=_CHALLENGER["color"],
        ecolor=_QUIET,
    )
    axes.set_yticks(places, labels=[entry.feature for entry in shown])
    axes.invert_yaxis()
    axes.set(
        xlabel="rise of the Brier score when the feature is shuffled",
        title=f"Permutation importance, {importance.rows} holdout rows, "
        f"{importance.shuffles} shuffles",
    )
    axes.title.set_fontsize(10)
    return _png(figure)


def _legend(figure: Any, axes: Any) -> None:
    """Below the axes, where no curve can run under it."""
    axes.title.set_fontsize(10)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", fontsize=8, frameon=False)
