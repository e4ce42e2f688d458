"""What is counted, in Prometheus' terms: base units, no patient data, templates for labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The counters of one worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "bc_http_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "bc_http_request_duration_seconds",
            "Time from the first byte of a request to its answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._predictions = Counter(
            "bc_predictions",
            "Predictions given.",
            ("model_version", "call"),
            registry=self.registry,
        )
        # Label look-ups cost more than counting: each child is looked up once.
        self._request_children: dict[tuple[str, str, int], Counter] = {}
        self._second_children: dict[str, Histogram] = {}
        self._prediction_children: dict[str, tuple[Counter, Counter]] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        key = (route, method, status)
        child = self._request_children.get(key)
        if child is None:
            child = self._requests.labels(route, method, str(int(status)))
            self._request_children[key] = child
        child.inc()
        timer = self._second_children.get(route)
        if timer is None:
            timer = self._second_children[route] = self._seconds.labels(route)
        timer.observe(seconds)

    def predicted(self, version: str, positive: int, total: int) -> None:
        """Count predictions of one model."""
        children = self._prediction_children.get(version)
        if children is None:
            children = (
                self._predictions.labels(version, "positive"),
                self._predictions.labels(version, "negative"),
            )
            self._prediction_children[version] = children
        if positive:
            children[0].inc(positive)
        if total > positive:
            children[1].inc(total - positive)
