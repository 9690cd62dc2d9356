"""The web application that Label Studio calls; routes translate, the service decides.

label-studio-ml's own server trains inside the webhook request, which Label Studio drops after one
second; this one answers `/health`, `/setup` and `/webhook` at once.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.annotation.client import LabelStudioClient
from backend.errors import (
    ForbiddenImageError,
    InvalidImageError,
    InvalidLabelConfigError,
    InvalidTaskError,
    LabelStudioError,
    QueueFullError,
)
from backend.logs import about
from backend.serving import status_page
from backend.serving.access import Access, Guard
from backend.serving.http_bodies import (
    REFUSALS,
    EventAnswer,
    EventBody,
    Health,
    ModelVersion,
    PredictBody,
    Predictions,
    SetupBody,
    Versions,
)
from backend.serving.metrics import CONTENT_TYPE, MeasureRequests
from backend.serving.service import GuideService
from backend.serving.watch import Watch
from backend.settings import Settings
from backend.work.training_process import TrainingStatus

logger = logging.getLogger(__name__)

_Aside: TypeAlias = Callable[..., Awaitable[Any]]

_ASIDE_THREADS = 8
"""For all but `/predict`, whose asks wait: for drafts, for guides, for Label Studio."""

_STATUS = {  # the first that fits
    ForbiddenImageError: 403,
    LabelStudioError: 502,
    ConnectionError: 503,  # something else cannot be reached, such as the ImageNet weights
    InvalidImageError: 422,
    InvalidLabelConfigError: 422,
    InvalidTaskError: 422,
    QueueFullError: 503,
    OSError: 507,  # the state folder cannot be written
}


class BodyLimit:
    """Refuses a request with a longer body than allowed, counted as it streams in."""

    def __init__(self, app: ASGIApp, max_mb: float) -> None:
        self._app = app
        self._max_mb = max_mb

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on; the one byte too many raises where the body is read."""
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_mb * 1e6:
                raise HTTPException(
                    413,
                    f"the body of the request has more than {self._max_mb:g} MB: raise "
                    "MAX_BODY_MB, or make the task smaller",
                )
            return message

        await self._app(scope, receive_counted, send)


def create_app(settings: Settings, service: GuideService | None = None) -> FastAPI:
    """Make the application.

    Args:
        settings: Everything configurable.
        service: Answers; made from the settings if left out, and closed with the application.
    """
    service = service or make_service(settings)
    watch = Watch(settings, service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # asks that may wait, and as many tasks that are opened meanwhile
        to_thread.current_default_thread_limiter().total_tokens = 2 * settings.max_waiting
        with watch.watching():
            yield
            service.close()

    # no pages of documentation: they run scripts of another host
    app = FastAPI(
        title="TEM guide", lifespan=lifespan, docs_url=None, redoc_url=None, responses=REFUSALS
    )
    app.add_middleware(BodyLimit, max_mb=settings.max_body_mb)
    app.add_middleware(Guard, access=Access(settings))  # the last one added is asked first
    app.add_middleware(MeasureRequests, metrics=watch.metrics)
    for kind in _STATUS:
        app.add_exception_handler(kind, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_malformed)

    aside = partial(to_thread.run_sync, limiter=CapacityLimiter(_ASIDE_THREADS))
    _add_routes(app, service, watch, aside)
    _add_pages(app, service, watch, aside)
    return app


def _add_routes(app: FastAPI, service: GuideService, watch: Watch, aside: _Aside) -> None:
    """Add what Label Studio calls; `Guard` asks for the password.

    What reads a file or asks Redis does so on a thread, and never keeps `/health` waiting.
    """

    @app.get("/health", response_model=Health)
    @app.get("/", response_model=Health)
    async def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "GuideBackend"}

    @app.post("/setup", response_model=ModelVersion)
    async def setup(body: SetupBody) -> dict[str, str]:
        if body.label_config:
            service.check_label_config(body.label_config)
        await aside(service.project_opened, body.project or "")
        return {"model_version": await aside(lambda: service.model_version)}

    @app.get("/versions", response_model=Versions)
    @app.post("/versions", response_model=Versions)
    async def versions() -> dict[str, list[str]]:
        return {"versions": [await aside(lambda: service.model_version)]}

    @app.post("/predict", response_model=Predictions)
    def predict(body: PredictBody) -> dict[str, Any]:
        context = (body.params or {}).get("context")
        with about(body.only_task, body.project_number):
            start_s = time.perf_counter()
            results = service.predict(body.tasks, body.label_config, context)
            if context and any(result["result"] for result in results):
                watch.answered(time.perf_counter() - start_s)
        return {"results": results}

    @app.post("/webhook", response_model=EventAnswer)
    @app.post("/train", response_model=EventAnswer)  # what old versions of Label Studio call
    async def webhook(body: EventBody) -> dict[str, str]:
        event = body.action or body.event or ""
        queued = await aside(service.handle_event, event, body.model_dump())
        return {"status": "queued" if queued else "ignored"}


def _add_pages(app: FastAPI, service: GuideService, watch: Watch, aside: _Aside) -> None:
    """Add what people and monitoring read; `Guard` asks for the password here too."""

    @app.get("/training")
    async def training() -> TrainingStatus:
        return await aside(lambda: service.training)

    @app.get("/status", response_class=HTMLResponse)
    async def status() -> HTMLResponse:
        return HTMLResponse(await aside(watch.page.render), headers=status_page.HEADERS)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(await aside(watch.metrics.page), media_type=CONTENT_TYPE)


def make_service(settings: Settings) -> GuideService:
    """Wire the service to the Label Studio of the settings."""
    key = settings.label_studio_api_key.get_secret_value()
    return GuideService(settings, LabelStudioClient(settings.label_studio_url, key))


class _Answer(JSONResponse):
    """Quotes whatever came: half of a surrogate pair can be written in ASCII only."""

    def render(self, content: object) -> bytes:
        """Make the body."""
        return json.dumps(content).encode()


async def _answer_malformed(request: Request, error: Exception) -> JSONResponse:
    """Say in one sentence which part of a body is missing or of a wrong kind."""
    mistakes = error.errors() if isinstance(error, RequestValidationError) else []
    where = "; ".join(f"{'.'.join(map(str, m['loc']))}: {m['msg']}" for m in mistakes)[:300]
    sentence = f"the request cannot be understood: {where}"
    logger.warning("%s: 422: %s", request.url.path, sentence)
    return _Answer({"detail": sentence}, 422)


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    """Say in one sentence what is wrong, in the log and in the answer."""
    status = next(code for kind, code in _STATUS.items() if isinstance(error, kind))
    logger.warning("%s: %d: %s", request.url.path, status, error)
    return _Answer({"detail": str(error)}, status)
