"""The Prometheus metrics of a worker.

No label contains anything of a request except its method and the path template of its route.

While requests are answered, plain numbers are incremented; `Metrics.publish` adds them to
prometheus_client's metrics a few times a second, which costs less than to do so per request.
Where several workers run, the launcher sets ``PROMETHEUS_MULTIPROC_DIR`` before they start:
each publishes into files there, and the worker that is scraped reads the files of all.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    values,
)
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from bc_pipeline.errors import KeyRefused, PipelineError, RateLimited, ScopeMissing

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
DIGEST_DIGITS = 12
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# The last bucket has no upper bound.
_BUCKET_COUNT = len(_BUCKETS) + 1

# prometheus_client does not annotate these.
_merge_files: Callable[[list[str]], Iterable[Metric]] = MultiProcessCollector.merge
_multi_process_value: Callable[[Callable[[], str]], Any] = values.MultiProcessValue

Mode = Literal["livesum", "livemin", "livemax", "max"]
# Gauges about the process, with their names in prometheus_client, and how the values of
# several workers are combined.
_PROCESS: dict[str, tuple[str, Mode]] = {
    "process_resident_memory_bytes": ("Resident memory of all workers.", "livesum"),
    "process_virtual_memory_bytes": ("Virtual memory of all workers.", "livesum"),
    "process_open_fds": ("Open file descriptors of all workers.", "livesum"),
    "process_max_fds": ("File descriptors that one worker may open.", "livemin"),
    "process_start_time_seconds": ("When the oldest worker started, since 1970.", "livemin"),
}


class _Durations(Histogram):
    """A histogram to which observations are added that were counted by bucket before."""

    def add(self, counts: Iterable[int], seconds: float) -> None:
        """Add observations by bucket, and their sum."""
        self._sum.inc(seconds)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class Metrics:
    """The metrics of one worker; not thread-safe, used from the thread of its event loop.

    Parameters
    ----------
    worker : str
        Unique among those that share the folder; letters, digits and hyphens. Its files are
        named after it and not after the process id: a replacement goes on counting in them,
        so that their number does not grow.

    Attributes
    ----------
    in_flight : int
        Requests that are being answered; `count_request` subtracts one.
    folder : Path or None
        Shared by the workers; None for a single worker.
    """

    def __init__(self, worker: str = "worker") -> None:
        self.in_flight = 0
        folder = os.environ.get(FOLDER_VARIABLE)
        self.folder = Path(folder) if folder else None
        if self.folder is not None:
            # Storage of the values of all metrics that are created from now on.
            values.ValueClass = _multi_process_value(lambda: worker)
        self._registry = CollectorRegistry()
        # Keys are route, method and status; values are counts by bucket and the sum of seconds.
        self._requests_by_labels: dict[tuple[str, str, int], list[float]] = {}
        # Positive and negative calls by version.
        self._calls_by_version: dict[str, list[int]] = {}
        self._refusals: dict[str, int] = {}
        self._cpu = 0.0
        self._model: tuple[str, ...] | None = None
        self._process = ProcessCollector(registry=None)
        self._create_counters()
        self._create_gauges()
        # A worker is not ready until `set_state` is called, but its process metrics are valid.
        self._set_process_metrics()

    def _create_counters(self) -> None:
        self._requests = self._counter(
            "bc_http_requests", "Requests answered.", "route", "method", "status"
        )
        self._seconds = _Durations(
            "bc_http_request_duration_seconds",
            "Time from the first byte of a request to the end of its answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._predictions = self._counter(
            "bc_predictions", "Predictions given.", "model_version", "call"
        )
        self._warnings = self._counter(
            "bc_prediction_warnings",
            "Values outside the range of the rows that the model was trained on.",
            "feature",
        )
        self._problems = self._counter(
            "bc_problems", "Requests refused or failed, by the code of the problem.", "code"
        )
        self._auth_failures = self._counter(
            "bc_auth_failures", "Requests whose credentials were not accepted.", "reason"
        )
        self._rate_limited = self._counter(
            "bc_rate_limited", "Requests refused because there were too many.", "kind"
        )
        self._model_refusals = self._counter(
            "bc_model_refusals", "Champions that were not taken, by the code of the error.", "code"
        )
        self._cpu_seconds = self._counter(
            "process_cpu_seconds", "User and system CPU time of all workers, ended ones included."
        )

    def _create_gauges(self) -> None:
        self._in_flight = self._gauge(
            "bc_http_requests_in_flight", "Requests that are being answered.", "livesum"
        )
        self._workers = self._gauge("bc_workers", "Workers that answer requests.", "livesum")
        self._ready = self._gauge(
            "bc_ready", "1 where every worker can answer predictions, else 0.", "livemin"
        )
        self._refused = self._gauge(
            "bc_model_refused", "1 while a champion is refused and another serves.", "livemax"
        )
        self._model_info = self._gauge(
            "bc_model_info",
            "The model that answers; two while workers disagree.",
            "livemax",
            "model_version",
            "manifest",
            "candidate",
            "generation",
        )
        self._loaded = self._gauge(
            "bc_model_loaded_timestamp_seconds",
            "When each version was last loaded by a worker, since 1970.",
            "max",
            "model_version",
        )
        self._process_gauges = {
            name: self._gauge(name, text, mode) for name, (text, mode) in _PROCESS.items()
        }

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, mode: Mode, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode=mode)

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request; `route` and `method` come from fixed sets."""
        self.in_flight -= 1
        tally = self._requests_by_labels.get((route, method, status))
        if tally is None:
            tally = self._requests_by_labels[route, method, status] = [0] * _BUCKET_COUNT + [0.0]
        tally[bisect_left(_BUCKETS, seconds)] += 1
        tally[-1] += seconds

    def count_predictions(self, version: str, positive: int, total: int) -> None:
        """Count predictions of one model."""
        calls = self._calls_by_version.get(version)
        if calls is None:
            calls = self._calls_by_version[version] = [0, 0]
        calls[0] += positive
        calls[1] += total - positive

    def count_warnings(self, features: Iterable[str]) -> None:
        """Count warnings, by names of the feature schema."""
        for feature in features:
            self._warnings.labels(feature).inc()

    def count_error(self, error: PipelineError) -> None:
        """Count an error that a client got."""
        self._problems.labels(error.code).inc()
        if isinstance(error, KeyRefused):
            self._auth_failures.labels(error.reason or "other").inc()
        elif isinstance(error, ScopeMissing):
            self._auth_failures.labels("scope").inc()
        elif isinstance(error, RateLimited):
            self._rate_limited.labels(error.kind or "other").inc()

    def publish(self) -> None:
        """Add what was counted since the last call to the metrics that are scraped."""
        for (route, method, status), tally in self._requests_by_labels.items():
            counts, seconds = [int(count) for count in tally[:_BUCKET_COUNT]], tally[-1]
            total = sum(counts)
            if total:
                tally[:] = [0] * _BUCKET_COUNT + [0.0]
                self._requests.labels(route, method, str(int(status))).inc(total)
                self._seconds.labels(route).add(counts, seconds)
        calls, self._calls_by_version = self._calls_by_version, {}
        for version, (positive, negative) in calls.items():
            self._predictions.labels(version, "positive").inc(positive)
            self._predictions.labels(version, "negative").inc(negative)
        self._in_flight.set(self.in_flight)

    def set_state(
        self,
        *,
        ready: bool,
        model: Mapping[str, str] | None,
        loaded_at: float,
        refused: bool,
        refusals: Mapping[str, int],
    ) -> None:
        """Set the state of this worker.

        Parameters
        ----------
        model : mapping or None
            Labels of the model that answers, as in ``bc_model_info``.
        loaded_at : float
            Seconds since 1970.
        refused : bool
            Whether a champion is refused at present.
        refusals : mapping of str to int
            Number of refusals since the start, by code.
        """
        self._workers.set(1)
        self._ready.set(ready)
        self._refused.set(refused)
        for code, count in refusals.items():
            self._model_refusals.labels(code).inc(count - self._refusals.get(code, 0))
            self._refusals[code] = count
        present = tuple(model.values()) if model else None
        if present != self._model:
            if self._model is not None:
                # A sample cannot be removed from the shared files; zeros are not exposed.
                self._model_info.labels(*self._model).set(0)
            self._model = present
        if model is not None:
            self._model_info.labels(**model).set(1)
            self._loaded.labels(model["model_version"]).set(loaded_at)
        self._set_process_metrics()

    def _set_process_metrics(self) -> None:
        for family in self._process.collect():
            for sample in family.samples:
                if sample.name == "process_cpu_seconds_total":
                    self._cpu_seconds.inc(max(0.0, sample.value - self._cpu))
                    self._cpu = sample.value
                elif sample.name in self._process_gauges:
                    self._process_gauges[sample.name].set(sample.value)

    def collect(self) -> Iterable[Metric]:
        """The metrics that all workers have published."""
        if self.folder is None:
            return self._registry.collect()
        return _merge_files([str(path) for path in self.folder.glob("*.db") if _has_size(path)])


def _has_size(path: Path) -> bool:
    """Whether prometheus_client can read a file: it creates one empty and sizes it afterwards.

    Files of a worker that ended may be removed meanwhile.
    """
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
