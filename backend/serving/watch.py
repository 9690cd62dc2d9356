"""What operators and managers look at while the backend works: metrics, status page, problems."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from backend.annotation.client import LabelStudioClient
from backend.learning.registry import Registry
from backend.learning.shared_model import PublishedModel
from backend.logs import redactor_of
from backend.problems import RecentProblems
from backend.serving.metrics import Metrics
from backend.serving.overview import Overview, ProjectsProgress, StateFolder
from backend.serving.service import GuideService
from backend.serving.status_page import StatusPage
from backend.settings import Settings

logger = logging.getLogger(__name__)


class Watch:
    """Watches one application; nothing is shared with another."""

    def __init__(self, settings: Settings, service: GuideService) -> None:
        """Take what is watched; nothing is read yet."""
        self._service = service
        key = settings.label_studio_api_key.get_secret_value()
        self._client = LabelStudioClient(settings.label_studio_url, key)
        self._progress = ProjectsProgress(self._client)
        self._problems = RecentProblems(redactor_of(settings))
        state, registry = StateFolder(settings.model_dir), Registry(settings.registry)
        self._published = PublishedModel(registry)
        self.metrics = Metrics(self._overview, self._problems, state)
        self.page = StatusPage(
            self._overview, self._progress.latest, self._problems, state, registry
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take note of what goes wrong within the block."""
        with self._client, self._problems.listening():
            yield
            self._progress.wait(timeout_s=5)

    def answered(self, seconds: float) -> None:
        """Take note of an answer to somebody who asked."""
        self.metrics.answered(seconds)
        logger.info("answered", extra={"event": "answer", "seconds": round(seconds, 3)})

    def _overview(self) -> Overview:
        jobs = self._service.jobs
        return Overview(
            jobs.waiting,
            jobs.running,
            jobs.workers,
            self._service.training,
            self._service.open_guides,
            self._published.version,
        )
