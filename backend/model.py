"""`GuideBackend`: the guide behind label-studio-ml's own interface, for existing deployments.

A translation only. label-studio-ml makes a backend for each request, and version 1.0.9 runs `fit`
in another process, so nothing is kept here: state lives in the service and its files.
"""

from __future__ import annotations

import inspect
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import lru_cache
from typing import ClassVar

from label_studio_ml import model as label_studio_ml_model
from label_studio_ml.model import LabelStudioMLBase

from backend.annotation.tasks import Json
from backend.serving.server import make_service
from backend.serving.service import GuideService
from backend.settings import Settings

_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "START_TRAINING")
_IS_VERSION_2 = "project_id" in inspect.signature(LabelStudioMLBase.__init__).parameters

if _IS_VERSION_2:
    label_studio_ml_model.TRAIN_EVENTS = _EVENTS


class GuideBackend(LabelStudioMLBase):
    """Translates label-studio-ml's calls, of 1.0.9 and of 2.x, for the service."""

    TRAIN_EVENTS = _EVENTS
    service: ClassVar[GuideService | None] = None
    """Bound on a subclass where the process starts; made from the environment if it is not."""

    def __init__(
        self, project_id: str | None = None, label_config: str | None = None, **kwargs: object
    ) -> None:
        """Take what either version of label-studio-ml gives."""
        if _IS_VERSION_2:
            super().__init__(project_id, label_config)
        else:
            super().__init__(label_config=label_config, **kwargs)
            self.setup()  # 1.0.9 never calls it

    def setup(self) -> None:
        """Tell label-studio-ml 2.x the version that its `/setup` answers with."""
        if hasattr(self, "set"):
            self.set("model_version", self._service().model_version)
        else:
            self.model_version = self._service().model_version

    def predict(self, tasks: list[Json], context: Json | None = None, **_: object) -> list[Json]:
        """Answer with the guide's prediction for each task."""
        return self._service().predict(tasks, str(self.label_config or ""), context)

    def process_event(self, event: str, data: Json, *_: object) -> Json:
        """Take an event of 1.0.9, which would hand `event` to `fit` twice."""
        return self.fit(event, data)

    def fit(self, event: object, data: object = None, **_: object) -> Json:
        """Learn from a submitted annotation, and wait for it: the process may end afterwards.

        An `event` that is no string comes from the `/train` of old versions, and is ignored.
        """
        if isinstance(event, str) and isinstance(data, dict):
            pending = self._service().handle_event(event, data)
            with suppress(CancelledError):  # a newer submission of the task took over
                while pending is not None:  # fetched, then learned, then pushed
                    pending = pending.result()
        return {"model_version": self._service().model_version}

    def _service(self) -> GuideService:
        return self.service or _service_from_environment()


def app_options(settings: Settings) -> dict[str, str]:
    """Return what `label_studio_ml.api.init_app` needs beside the class, by its version."""
    if _IS_VERSION_2:
        return {}
    # without a folder for its jobs, 1.0.9 fails at every webhook
    return {"model_dir": str(settings.model_dir / "label-studio-ml")}


@lru_cache(maxsize=1)
def _service_from_environment() -> GuideService:
    return make_service(Settings())
