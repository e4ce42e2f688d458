"""The answer to a scrape: what all workers counted, and the state at that time."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bc_pipeline import __version__, clock
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.code_version import code_version
from bc_pipeline.errors import PipelineError
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.prediction_log.status import RECENT_DAYS, OutcomeCounts
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.model.model_info import read_treat_all
from bc_pipeline.serving.model.model_watcher import ModelWatcher
from bc_pipeline.serving.telemetry.metrics import DIGEST_DIGITS, Metrics
from bc_pipeline.serving.telemetry.readiness import Readiness, is_ready
from bc_pipeline.settings import Settings

PUBLISH_SECONDS = 0.25
# Versions that get their own samples; the samples of older ones are left out.
VERSIONS = 8
_VERSION = "model_version"
_LOADED = "bc_model_loaded_timestamp_seconds"
# Descriptions of the gauges about the state at the time of a scrape.
_TEXTS = {
    "bc_build_info": "The code that runs.",
    "bc_model_checked_timestamp_seconds": "When the registry was last looked at with success, "
    "since 1970.",
    "bc_model_data_as_of_timestamp_seconds": "Up to when rows had arrived that the model was "
    "trained on, since 1970.",
    "bc_model_promoted_timestamp_seconds": "When the model was promoted, since 1970.",
    "bc_model_decision_threshold_ratio": "The call is positive where the probability is above it.",
    "bc_records_backlog_bytes": "Bytes of the prediction log that wait for the database.",
    "bc_records_backlog_limit_bytes": "How many may wait before predictions are refused.",
    "bc_records_oldest_waiting_seconds": "Age of the oldest record that waits for the database.",
    "bc_records_database_up": "1 where the drainer reports that it reaches the database, else 0.",
    "bc_records_reported_timestamp_seconds": "When the drainer last reported, since 1970.",
}


@dataclass(frozen=True)
class Exposition:
    """Publishes what this worker counts, and answers scrapes with what all workers published."""

    settings: Settings
    metrics: Metrics
    model_watcher: ModelWatcher
    spool: Spool | None

    def publish(self) -> None:
        """Publish this worker's counts and state, for the scrapes of the other workers too.

        A single worker does so regularly as well: otherwise the samples of a version that was
        replaced between two scrapes would be lost.
        """
        watcher = self.model_watcher
        model = watcher.current
        self.metrics.set_state(
            ready=is_ready(model, self.spool),
            model=_model_labels(model) if model else None,
            loaded_at=model.loaded_at.timestamp() if model else 0.0,
            refused=watcher.last_refusal is not None,
            refusals=watcher.refusals_by_code,
        )
        self.metrics.publish()

    def encode(self, readiness: Readiness, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that a scraper accepts, and its media type; reads files."""
        encode, media_type = exposition.choose_encoder(accept)
        return encode(_Scrape(self, readiness)), media_type

    def predictions(self) -> dict[str, dict[str, int]]:
        """Predictions of all workers by version and call."""
        counts: dict[str, dict[str, int]] = {}
        for family in self.counted():
            if family.name == "bc_predictions":
                for sample in family.samples:
                    calls = counts.setdefault(sample.labels[_VERSION], {})
                    calls[sample.labels["call"]] = int(sample.value)
        return counts

    def counted(self) -> Iterator[Metric]:
        """The metrics of all workers, without outdated samples.

        These are the samples of old versions and of models that no longer answer, and the
        times of creation that prometheus_client adds.
        """
        families = list(self.metrics.collect())
        loaded = {
            sample.labels[_VERSION]: sample.value
            for family in families
            if family.name == _LOADED
            for sample in family.samples
        }
        recent = set(sorted(loaded, key=lambda version: (loaded[version], version))[-VERSIONS:])
        for family in families:
            family.samples = [
                sample
                for sample in family.samples
                if not sample.name.endswith("_created")
                and sample.labels.get(_VERSION) in (None, *recent)
                and not (sample.name == "bc_model_info" and not sample.value)
            ]
            yield family


@dataclass(frozen=True)
class _Scrape:
    """A collector, in the sense of prometheus_client, for one answer."""

    exposition: Exposition
    readiness: Readiness

    def collect(self) -> Iterator[Metric]:
        yield from self.exposition.counted()
        yield _gauge(
            "bc_build_info",
            1.0,
            version=__version__,
            code_version=code_version(),
            python_version=platform.python_version(),
        )
        watcher, settings = self.exposition.model_watcher, self.exposition.settings
        if watcher.checked_at is not None:
            yield _gauge("bc_model_checked_timestamp_seconds", watcher.checked_at.timestamp())
        if watcher.current is not None:
            yield from _model_metrics(settings, watcher.current)
        if self.exposition.spool is not None:
            yield from _log_metrics(self.readiness, settings.records_backlog_mb << 20)


def _model_labels(model: LoadedModel) -> dict[str, str]:
    return {
        _VERSION: model.version,
        "manifest": model.manifest_sha256[:DIGEST_DIGITS],
        "candidate": model.manifest.recipe.candidate,
        "generation": str(model.generation),
    }


def _model_metrics(settings: Settings, model: LoadedModel) -> Iterator[Metric]:
    yield _gauge(
        "bc_model_data_as_of_timestamp_seconds",
        clock.parse_time(model.manifest.lineage.as_of).timestamp(),
    )
    if (promoted_at := _promoted_at(settings, model)) is not None:
        yield _gauge("bc_model_promoted_timestamp_seconds", promoted_at.timestamp())
    yield _gauge("bc_model_decision_threshold_ratio", model.manifest.threshold)
    evaluation = GaugeMetricFamily(
        "bc_model_evaluation",
        "Metrics of the model on its holdout, at its release.",
        labels=("metric",),
    )
    treat_all = {"net_benefit_treat_all": read_treat_all(settings, model)}
    for name, value in (model.manifest.metrics | treat_all).items():
        if value is not None:
            evaluation.add_metric((name,), value)
    yield evaluation


def _promoted_at(settings: Settings, model: LoadedModel) -> datetime | None:
    """The time from the registry; None where the registry names another version by now."""
    try:
        pointer = read_registry(Store.of(settings, settings.service_problem)).production
    except PipelineError:
        return None
    if pointer is None or pointer.version != model.version or model.source != "registry":
        return None
    return clock.parse_time(pointer.promoted_at)


def _log_metrics(readiness: Readiness, backlog_limit: int) -> Iterator[Metric]:
    """The prediction log, its database, and the last report of the drainer."""
    yield _gauge("bc_records_backlog_bytes", readiness.backlog)
    yield _gauge("bc_records_backlog_limit_bytes", backlog_limit)
    yield _gauge("bc_records_oldest_waiting_seconds", readiness.oldest_waiting_seconds)
    yield _gauge("bc_records_database_up", readiness.database == "ok")
    status = readiness.status
    if status is None:
        return
    yield _gauge("bc_records_reported_timestamp_seconds", status.written_at)
    for name, text, count in (
        ("bc_records_drained", "Records that were put into the database.", status.drained),
        ("bc_records_damaged", "Damaged stretches found in the log.", status.damaged),
        ("bc_records_refused", "Records that the database would not take.", status.refused),
    ):
        yield CounterMetricFamily(name, text, value=count)
    yield _outcome_metrics(
        "bc_outcomes",
        "Predictions whose truth is known, by call and truth; corrections move them.",
        status.outcomes,
    )
    recent = status.recent_outcomes
    yield _outcome_metrics(
        "bc_outcomes_recent",
        f"The same, of outcomes that were recorded within the last {RECENT_DAYS} days.",
        recent,
    )
    expected = GaugeMetricFamily(
        "bc_outcomes_recent_expected",
        "Sum of the probabilities of the positive class of these predictions: how many would be "
        "positive, if the model is calibrated.",
        labels=(_VERSION,),
    )
    for version in _versions_with_most(recent):
        expected.add_metric((version,), recent[version].expected)
    yield expected


def _versions_with_most(outcomes: Mapping[str, OutcomeCounts]) -> list[str]:
    """A new version has none for a while."""
    return sorted(outcomes, key=lambda name: (-_total(outcomes[name]), name))[:VERSIONS]


def _outcome_metrics(name: str, text: str, outcomes: Mapping[str, OutcomeCounts]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(_VERSION, "call", "truth"))
    for version in _versions_with_most(outcomes):
        counts = outcomes[version]
        family.add_metric((version, "positive", "positive"), counts.tp)
        family.add_metric((version, "negative", "positive"), counts.fn)
        family.add_metric((version, "positive", "negative"), counts.fp)
        family.add_metric((version, "negative", "negative"), counts.tn)
    return family


def _total(counts: OutcomeCounts) -> int:
    return counts.tp + counts.fn + counts.fp + counts.tn


def _gauge(name: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(name, _TEXTS[name], labels=tuple(labels))
    family.add_metric(tuple(labels.values()), float(value))
    return family
