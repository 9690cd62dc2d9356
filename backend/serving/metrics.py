"""What Prometheus may ask for at `/metrics`: requests, answers, the queue, the training, problems.

Each application has a registry of its own. Labels take few values: routes and statuses that exist,
classes of exceptions; never a task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.problems import RecentProblems
from backend.serving.overview import Overview, StateFolder
from backend.work.training_process import ENDED

PREFIX = "tem_guide_"
CONTENT_TYPE = CONTENT_TYPE_LATEST
NO_ROUTE = "none"
"""Of a request that was refused before its route was looked for, or that has none."""
_REQUEST_BUCKETS_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 100)
_ANSWER_BUCKETS_S = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 100)


class Metrics:
    """Counts what happens, and hands it out in Prometheus' format."""

    def __init__(
        self, overview: Callable[[], Overview], problems: RecentProblems, state: StateFolder
    ) -> None:
        """Start at zero.

        Args:
            overview: Tells what goes on now; called once for each `page`.
            problems: Counts what goes wrong.
            state: Is measured when asked.
        """
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            f"{PREFIX}request_seconds", "Requests by route and status",
            ("route", "status"), buckets=_REQUEST_BUCKETS_S, registry=self._registry,
        )  # fmt: skip
        self._answers = Histogram(
            f"{PREFIX}answer_seconds", "Answers to annotators who asked, the wait included",
            buckets=_ANSWER_BUCKETS_S, registry=self._registry,
        )  # fmt: skip
        ProcessCollector(registry=self._registry)
        self._registry.register(_Now(overview, problems, state))

    def requested(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(route, str(status)).observe(seconds)

    def answered(self, seconds: float) -> None:
        """Count an answer to somebody who drew a prompt."""
        self._answers.observe(seconds)

    def page(self) -> bytes:
        """All that is known now, in the format of `CONTENT_TYPE`."""
        return generate_latest(self._registry)


class MeasureRequests:
    """Measures every request, refused ones too; the outermost of our layers."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and count it when the answer has been sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def send_noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            self._metrics.requested(route, status, time.perf_counter() - start)


class _Now(Collector):
    """Looks at the state when Prometheus asks."""

    def __init__(
        self, overview: Callable[[], Overview], problems: RecentProblems, state: StateFolder
    ) -> None:
        self._overview = overview
        self._problems = problems
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """Measure everything once."""
        now = self._overview()
        trains = now.training.state not in ENDED
        yield _gauge("jobs_waiting", "Jobs that somebody waits for", now.waiting.asked)
        yield _gauge("jobs_for_idle_moments", "Jobs that nobody waits for", now.waiting.idle)
        yield _gauge("oldest_wait_seconds", "Longest wait of a job", now.waiting.oldest_s)
        yield _gauge("jobs_running", "Jobs that run, guides' trainings included", len(now.running))
        yield _gauge("workers", "Processes that do jobs, this one if it does them", now.workers)
        yield _gauge("open_guides", "Guides in memory", now.open_guides)
        yield _gauge("training_running", "Whether the shared model is trained now", trains)
        yield _gauge(
            "training_progress_ratio",
            "How far the last training of the shared model is or was, 0 to 1",
            now.training.progress,
        )
        yield _gauge("published_model_version", "Shared model that serves, 0: none", now.published)
        yield _gauge("state_bytes", "Size of the state folder", self._state.nbytes)
        yield _gauge("state_free_bytes", "Free where it lies", self._state.free_bytes)
        problems = CounterMetricFamily(
            f"{PREFIX}problems", "Warnings and errors logged, by kind", labels=["kind"]
        )
        for kind, count in sorted(self._problems.counts().items()):
            problems.add_metric([kind], count)
        yield problems


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, meaning, value=float(value))
