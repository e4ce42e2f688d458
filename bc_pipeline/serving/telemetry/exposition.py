"""What a scrape is told: what the workers counted, and what is known at that moment."""

from __future__ import annotations

import asyncio
import math
import platform
from collections.abc import Iterable, Mapping
from datetime import datetime

from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bc_pipeline import __version__, clock
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import read_registry
from bc_pipeline.code import code_version
from bc_pipeline.errors import PipelineError
from bc_pipeline.records.status import OutcomeCounts
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.services import Services
from bc_pipeline.serving.telemetry.metrics import DIGEST_DIGITS
from bc_pipeline.serving.telemetry.readiness import Readiness, is_ready, oldest
from bc_pipeline.serving.turns import Turns

PUBLISH_SECONDS = 0.25
# Versions that are told apart; older ones are left out of an answer.
VERSIONS = 8
_VERSION = "model_version"
_LOADED = "bc_model_loaded_timestamp_seconds"


async def watch(services: Services) -> None:
    """Publish what this worker counts, for the others to tell.

    For one alone too: what a version answered between two scrapes would go with it.
    """
    turns = Turns("metrics")
    while True:
        with turns.turn():
            observe(services)
        await asyncio.sleep(PUBLISH_SECONDS)


def observe(services: Services) -> None:
    """Publish what this worker has counted, and its state."""
    model = services.model
    live = model.current
    services.metrics.describe(
        ready=is_ready(services),
        model=_labels(live) if live else None,
        loaded_at=live.loaded_at.timestamp() if live else 0.0,
        refused=model.last_refusal is not None,
        refusals=model.refusals_by_code,
    )
    services.metrics.publish()


def _labels(live: Live) -> dict[str, str]:
    return {
        _VERSION: live.version,
        "manifest": live.manifest_sha256[:DIGEST_DIGITS],
        "candidate": live.manifest.recipe.candidate,
        "generation": str(live.generation),
    }


def expose(services: Services, found: Readiness, accept: str) -> tuple[bytes, str]:
    """The exposition in the format that a scraper accepts, and its media type; reads files."""
    encode, media_type = exposition.choose_encoder(accept)
    return encode(_Scrape(services, found)), media_type


def answered(services: Services) -> dict[str, dict[str, int]]:
    """Predictions of all workers by version and call."""
    counts: dict[str, dict[str, int]] = {}
    for family in _bounded(services.metrics.collect()):
        if family.name == "bc_predictions":
            for sample in family.samples:
                calls = counts.setdefault(sample.labels[_VERSION], {})
                calls[sample.labels["call"]] = int(sample.value)
    return counts


class _Scrape:
    """A collector for one answer."""

    def __init__(self, services: Services, found: Readiness) -> None:
        self._services = services
        self._found = found

    def collect(self) -> Iterable[Metric]:
        yield from _bounded(self._services.metrics.collect())
        yield _gauge(
            "bc_build_info",
            "The code that runs.",
            1.0,
            version=__version__,
            code_version=code_version(),
            python_version=platform.python_version(),
        )
        yield from self._model()
        if self._services.spool is not None:
            yield from self._records()

    def _model(self) -> Iterable[Metric]:
        live, checked_at = self._services.model.current, self._services.model.checked_at
        if checked_at is not None:
            yield _moment(
                "bc_model_checked_timestamp_seconds",
                "When the registry was last looked at with success, since 1970.",
                checked_at,
            )
        if live is None:
            return
        yield _moment(
            "bc_model_data_as_of_timestamp_seconds",
            "Up to when rows had arrived that the model was trained on, since 1970.",
            clock.parse_time(live.manifest.lineage.as_of),
        )
        promoted_at = _promoted_at(self._services, live)
        if promoted_at is not None:
            yield _moment(
                "bc_model_promoted_timestamp_seconds",
                "When the model was promoted, since 1970.",
                promoted_at,
            )
        yield _gauge(
            "bc_model_decision_threshold_ratio",
            "The call is positive where the probability is above it.",
            live.manifest.threshold,
        )
        metrics = GaugeMetricFamily(
            "bc_model_evaluation",
            "Metrics of the model on its holdout, at its release.",
            labels=("metric",),
        )
        for name, value in live.manifest.metrics.items():
            if value is not None and math.isfinite(value):
                metrics.add_metric((name,), value)
        yield metrics

    def _records(self) -> Iterable[Metric]:
        found, settings = self._found, self._services.settings
        yield _gauge(
            "bc_records_backlog_bytes",
            "Bytes of the prediction log that wait for the database.",
            found.backlog,
        )
        yield _gauge(
            "bc_records_backlog_limit_bytes",
            "How many may wait before predictions are refused.",
            settings.records_backlog_mb << 20,
        )
        yield _gauge(
            "bc_records_oldest_waiting_seconds",
            "Age of the oldest record that waits for the database.",
            oldest(found),
        )
        yield _gauge(
            "bc_records_database_up",
            "1 where the drainer reports that it reaches the database, else 0.",
            found.database == "ok",
        )
        status = found.status
        if status is None:
            return
        yield _gauge(
            "bc_records_reported_timestamp_seconds",
            "When the drainer last reported, since 1970.",
            status.written_at,
        )
        for name, text, count in (
            ("bc_records_drained", "Records that were put into the database.", status.drained),
            ("bc_records_damaged", "Damaged stretches found in the log.", status.damaged),
            ("bc_records_refused", "Records that the database would not take.", status.refused),
        ):
            yield CounterMetricFamily(name, text, value=count)
        yield _outcomes(status.outcomes)


def _outcomes(counts: Mapping[str, OutcomeCounts]) -> Metric:
    """Those of the versions with the most: it takes a while until a version has any."""
    family = GaugeMetricFamily(
        "bc_outcomes",
        "Predictions whose truth is known, by call and truth; corrections move them.",
        labels=(_VERSION, "call", "truth"),
    )
    most = sorted(counts, key=lambda version: (-_total(counts[version]), version))[:VERSIONS]
    for version in most:
        found = counts[version]
        family.add_metric((version, "positive", "positive"), found.tp)
        family.add_metric((version, "negative", "positive"), found.fn)
        family.add_metric((version, "positive", "negative"), found.fp)
        family.add_metric((version, "negative", "negative"), found.tn)
    return family


def _total(counts: OutcomeCounts) -> int:
    return counts.tp + counts.fn + counts.fp + counts.tn


def _bounded(families: Iterable[Metric]) -> Iterable[Metric]:
    """Leave out what is over: old versions, a model that answers no more, times of creation."""
    found = list(families)
    loaded = {
        sample.labels[_VERSION]: sample.value
        for family in found
        if family.name == _LOADED
        for sample in family.samples
    }
    recent = set(sorted(loaded, key=lambda version: (loaded[version], version))[-VERSIONS:])
    for family in found:
        family.samples = [
            sample
            for sample in family.samples
            if not sample.name.endswith("_created")
            and sample.labels.get(_VERSION) in (None, *recent)
            and not (sample.name == "bc_model_info" and not sample.value)
        ]
        yield family


def _promoted_at(services: Services, live: Live) -> datetime | None:
    """From the registry, which may have gone on to another version meanwhile."""
    settings = services.settings
    try:
        pointer = read_registry(Store(settings.home, settings.service_problem)).production
    except PipelineError:
        return None
    if pointer is None or pointer.version != live.version or live.source != "registry":
        return None
    return clock.parse_time(pointer.promoted_at)


def _moment(name: str, text: str, moment: datetime) -> Metric:
    return _gauge(name, text, moment.timestamp())


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), float(value))
    return family
