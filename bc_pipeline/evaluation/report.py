"""Files about an evaluation for people: importance, figures and model card.

This is the only module that imports matplotlib. The same evaluation gives the same bytes:
figures are drawn with matplotlib's own defaults instead of the user's configuration, and have
no date.
"""

from __future__ import annotations

import io
from typing import Any

from bc_pipeline.artifacts.coefficients import Coefficients
from bc_pipeline.artifacts.evidence import Evaluation, Score, Side
from bc_pipeline.artifacts.files import encode_document
from bc_pipeline.artifacts.importance import Importance
from bc_pipeline.artifacts.predictors import Predictor
from bc_pipeline.artifacts.signed_bundle import CARD, FIGURES, IMPORTANCE
from bc_pipeline.data.split import SplitSide
from bc_pipeline.errors import counted
from bc_pipeline.evaluation.importance import permutation_importance
from bc_pipeline.evaluation.model_card import model_card
from bc_pipeline.labels import Labels
from bc_pipeline.problems.base import Problem

# Colours of Okabe and Ito, which colour-blind readers can distinguish. The champion's line is
# broad, to be visible under the challenger's.
_CHALLENGER = {"color": "#0072B2", "linestyle": "-", "linewidth": 1.4}
_CHAMPION = {"color": "#D55E00", "linestyle": "--", "linewidth": 3.2}
_GREY = "#888888"
_POOLED = {"color": _GREY, "linestyle": "-", "linewidth": 1.0}
_DIAGONAL: dict[str, Any] = {"color": _GREY, "linestyle": ":", "linewidth": 0.8}
# Changes of matplotlib's own configuration.
_DRAWING = {"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}
_DPI = 110
_FEATURES_SHOWN = 15


def make_report(
    problem: Problem,
    challenger: Predictor,
    evaluation: Evaluation,
    holdout: SplitSide,
    coefficients: Coefficients | None = None,
) -> dict[str, bytes]:
    """Importance, figures and model card of a challenger.

    Parameters
    ----------
    holdout : SplitSide
        Rows of the evaluation.
    coefficients : Coefficients, optional
        For the model card, which is never encrypted: those of an encrypted model stay out.

    Returns
    -------
    dict of str to bytes
        Files by name, relative to the version's folder.
    """
    importance = permutation_importance(
        challenger.positive,
        holdout.values,
        holdout.positive,
        problem.schema.names,
        seed=problem.gate.bootstrap_seed,
    )
    files = {
        IMPORTANCE: encode_document(importance),
        CARD: model_card(
            problem, challenger.manifest, evaluation, importance, coefficients
        ).encode(),
    }
    for name, data in draw_figures(problem.labels, evaluation, importance).items():
        files[f"{FIGURES}/{name}"] = data
    return files


def draw_figures(
    labels: Labels, evaluation: Evaluation, importance: Importance
) -> dict[str, bytes]:
    """Draw every figure, the champion beside the challenger where there is one.

    Returns
    -------
    dict of str to bytes
        PNG files by name: ``roc precision_recall confusion calibration
        permutation_importance``, each with ``.png``. Undefined curves are left out.
    """
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_DRAWING)
        return {
            "roc.png": _roc(labels, evaluation),
            "precision_recall.png": _precision_recall(labels, evaluation),
            "confusion.png": _confusion(labels, evaluation),
            "calibration.png": _calibration(labels, evaluation),
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
    """The bytes of a figure; a legend of all curves is put below, where it covers none."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", fontsize=8, frameon=False)
    stream = io.BytesIO()
    # Without matplotlib's version, which would change the bytes with every update.
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def _value(score: Score, metric: str) -> str:
    value = score.metrics[metric]
    return "undefined" if value is None else f"{value:.3f}"


def _roc(labels: Labels, evaluation: Evaluation) -> bytes:
    from sklearn.metrics import roc_curve

    figure = _figure()
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], **_DIAGONAL)
    for role, side, style in _sides(evaluation):
        score = side.holdout
        if not 0 < sum(score.positive) < len(score.positive):
            continue
        false_rate, true_rate, _ = roc_curve(score.positive, score.probability)
        label = f"{role}: {side.title}, AUC {_value(score, 'roc_auc')}"
        axes.plot(false_rate, true_rate, label=label, **style)
        false_alarms = 1.0 - (score.metrics["specificity"] or 0.0)
        axes.plot(false_alarms, score.metrics["sensitivity"], "o", color=style["color"])
    axes.set(
        xlabel="1 - specificity",
        ylabel=f"sensitivity ({labels.positive.name})",
        title=f"ROC on {len(evaluation.challenger.holdout.keys)} holdout rows; dots: the threshold",
    )
    return _png(figure)


def _precision_recall(labels: Labels, evaluation: Evaluation) -> bytes:
    from sklearn.metrics import precision_recall_curve

    figure = _figure()
    axes = figure.add_subplot()
    for role, side, style in _sides(evaluation):
        score, metrics = side.holdout, side.holdout.metrics
        if not 0 < sum(score.positive) < len(score.positive):
            continue
        precision, recall, _ = precision_recall_curve(score.positive, score.probability)
        label = f"{role}: {side.title}, F1 {_value(score, 'f1')}"
        axes.plot(recall, precision, label=label, drawstyle="steps-post", **style)
        if metrics["precision"] is not None:
            axes.plot(metrics["sensitivity"], metrics["precision"], "o", color=style["color"])
    axes.set(
        xlabel=f"sensitivity ({labels.positive.name})",
        ylabel="precision",
        ylim=(0.0, 1.03),
        title="Precision and recall on the holdout; dots: the threshold",
    )
    return _png(figure)


def _confusion(labels: Labels, evaluation: Evaluation) -> bytes:
    import numpy as np

    sides = _sides(evaluation)
    names = [labels.positive.name, labels.negative.name]
    figure = _figure(3.9 * len(sides), 3.9)
    for number, (role, side, _) in enumerate(sides, start=1):
        confusion = side.holdout.confusion
        counts = np.array(
            [
                [confusion.true_positive, confusion.false_negative],
                [confusion.false_positive, confusion.true_negative],
            ]
        )
        axes = figure.add_subplot(1, len(sides), number)
        axes.imshow(counts, cmap="Blues", vmin=0, vmax=max(1, int(counts.sum())))
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if count > counts.sum() / 2 else "black"
            axes.text(column, row, count, ha="center", va="center", fontsize=18, color=color)
        axes.set_xticks([0, 1], labels=names)
        axes.set_yticks([0, 1], labels=names, rotation=90, va="center")
        axes.set(
            xlabel="called",
            ylabel="true",
            title=f"{role}: {side.title}\nthreshold {side.holdout.threshold:.3f}",
        )
    return _png(figure)


def _calibration(labels: Labels, evaluation: Evaluation) -> bytes:
    figure = _figure()
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], **_DIAGONAL)
    curves = [("challenger in cross-validation", evaluation.cross_validation, _POOLED)]
    curves += [
        (f"{role} on the holdout", side.holdout, style) for role, side, style in _sides(evaluation)
    ]
    for name, score, style in curves:
        bins = [entry for entry in score.calibration if entry.rows > 0]
        predicted = [entry.mean_probability for entry in bins]
        observed = [entry.observed_share for entry in bins]
        error = _value(score, "calibration_error")
        label = f"{name}, {counted(len(score.keys), 'row')}, error {error}"
        axes.plot(predicted, observed, label=label, **style)
        sizes = [8 + 2 * entry.rows for entry in bins]
        axes.scatter(predicted, observed, s=sizes, color=style["color"])
    axes.set(
        xlabel=f"mean probability of {labels.positive.name} in the bin",
        ylabel=f"share that is {labels.positive.name}",
        title="Calibration; the larger a dot, the more rows",
    )
    return _png(figure)


def _importance(importance: Importance) -> bytes:
    shown = importance.features[:_FEATURES_SHOWN]
    figure = _figure(6.6, 0.9 + 0.32 * len(shown))
    axes = figure.add_subplot()
    axes.barh(
        [entry.feature for entry in shown],
        [entry.mean for entry in shown],
        xerr=[entry.deviation for entry in shown],
        height=0.6,
        color=_CHALLENGER["color"],
        ecolor=_GREY,
    )
    axes.invert_yaxis()
    axes.set(
        xlabel="rise of the Brier score when the feature is shuffled",
        title=f"Permutation importance, {importance.rows} holdout rows, "
        f"{importance.shuffles} shuffles",
    )
    return _png(figure)
