"""What a person who decides about a release reads, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from bc_airflow.text import number, outcome
from bc_airflow.volume import Judged
from bc_pipeline.artifacts.evaluated_rows import EvaluatedRows
from bc_pipeline.errors import counted

_CONSEQUENCE = (
    "Approve to make it the model that answers and scores. Reject, or no answer in time, "
    "keeps the champion. For research use; not a medical device."
)
_FIGURES = ("sensitivity", "specificity", "f1", "roc_auc", "brier")


def question(judged: Judged, champion: Judged | None, base_url: str, notes: list[str]) -> str:
    """Figures with intervals, what differs from the champion, every check, and links.

    Parameters
    ----------
    champion : Judged or None
        The version in production; None for a first model.
    base_url : str
        Of Airflow's pages.
    notes : list of str
        Sentences about who may decide.
    """
    verdict, version = judged.verdict, judged.manifest.version
    against = f"against champion `{verdict.champion}`" if verdict.champion else "with no champion"
    passed = f"passed the gate ({verdict.kind}, {against})."
    parts = [
        f"Version `{version}` ({judged.manifest.recipe.title}) {passed}",
        f"SHA-256 of its manifest: `{judged.manifest_sha256}`",
        *notes,
        *([f"Recipe: {_cell(verdict.kind_note)}"] if verdict.kind_note else []),
        *(_table(f"Figures, {each.title.lower()}", _figures(each)) for each in judged.evaluated),
        _table("Beside the champion", _differences(judged, champion)) if champion else "",
        _table("Checks", _checks(judged)),
        _links(judged, base_url),
        _CONSEQUENCE,
    ]
    return "\n\n".join(filter(None, parts))


def _figures(rows: EvaluatedRows) -> Iterator[tuple[str, ...]]:
    yield ("Metric", f"Of {counted(rows.count, 'row')}", "Interval")
    for name in _FIGURES:
        if name in rows.metrics:
            interval = rows.intervals.get(name)
            span = f"{number(interval.low)} to {number(interval.high)}" if interval else "-"
            yield (name, number(rows.metrics[name]), span)


def _differences(judged: Judged, champion: Judged) -> Iterator[tuple[str, ...]]:
    """What of recipe, data and code is another than the champion's."""
    yield ("", "Champion", "Challenger")
    for name, old, new in zip(
        ("version", "model", "recipe", "threshold", "dataset", "as of", "train rows", "code"),
        _lineage(champion),
        _lineage(judged),
        strict=True,
    ):
        if old != new:
            yield (name, old, new)


def _lineage(judged: Judged) -> tuple[str, ...]:
    manifest = judged.manifest
    return (
        manifest.version,
        manifest.recipe.title,
        manifest.recipe.recipe,
        number(manifest.threshold),
        manifest.lineage.dataset,
        manifest.lineage.as_of,
        str(manifest.lineage.train_rows),
        manifest.lineage.code_version,
    )


def _checks(judged: Judged) -> Iterator[tuple[str, ...]]:
    yield ("Check", "Rule", "Champion", "Challenger", "Interval", "Result", "Note")
    for check in judged.verdict.checks:
        span = check.interval
        yield (
            check.name,
            check.rule,
            number(check.champion),
            number(check.challenger),
            f"{number(span.low)} to {number(span.high)}" if span else "-",
            outcome(check.passed, check.blocking),
            check.note,
        )


def _links(judged: Judged, base_url: str) -> str:
    problem, lineage = judged.manifest.problem, judged.manifest.lineage
    pages = f"{base_url}/bc/dags/{problem}_approval/versions"
    links = [f"[verdict, card and figures]({pages}/{judged.manifest.version})"]
    if judged.verdict.champion:
        links.append(f"[the champion's]({pages}/{judged.verdict.champion})")
    if lineage.dag is not None:
        run = f"{base_url}/dags/{lineage.dag.dag_id}/runs/{lineage.run_id}"
        links.append(f"[the run that trained it]({run})")
    return f"Links: {', '.join(links)}."


def _table(title: str, rows: Iterator[tuple[str, ...]]) -> str:
    header, *body = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    if not body:
        return ""
    return "\n".join([f"**{title}**", "", header, "|---" * (header.count(" | ") + 1) + "|", *body])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
