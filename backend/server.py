"""The web application that Label Studio calls; routes translate, the service decides.

label-studio-ml's own server trains inside the webhook request, which Label Studio drops after one
second; this one answers `/health`, `/setup` and `/webhook` at once.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.annotation.client import LabelStudioClient
from backend.errors import (
    ForbiddenImageError,
    InvalidImageError,
    InvalidLabelConfigError,
    InvalidTaskError,
    LabelStudioError,
)
from backend.service import GuideService
from backend.settings import Settings
from backend.training_process import TrainingStatus

logger = logging.getLogger(__name__)

_BASIC = HTTPBasic(auto_error=False)
_STATUS = {  # the first that fits
    ForbiddenImageError: 403,
    LabelStudioError: 502,
    ConnectionError: 503,  # something else cannot be reached, such as the ImageNet weights
    InvalidImageError: 422,
    InvalidLabelConfigError: 422,
    InvalidTaskError: 422,
    OSError: 507,  # the state folder cannot be written
}


class PredictBody(BaseModel):
    """What Label Studio sends to `/predict`."""

    tasks: list[dict[str, Any]]
    label_config: str
    params: dict[str, Any] | None = None


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
    allowed = Depends(_basic_auth(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="TEM guide", lifespan=lifespan)
    app.add_middleware(BodyLimit, max_mb=settings.max_body_mb)
    for kind in _STATUS:
        app.add_exception_handler(kind, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_malformed)

    _add_routes(app, service, allowed)
    return app


def _add_routes(app: FastAPI, service: GuideService, allowed: Any) -> None:  # noqa: ANN401
    """Add what Label Studio calls, and what people read."""

    @app.get("/health")
    @app.get("/")
    async def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "GuideBackend"}

    @app.post("/setup", dependencies=[allowed])
    async def setup(body: dict[str, Any]) -> dict[str, str]:
        if schema := str(body.get("schema") or ""):
            service.check_label_config(schema)
        service.project_opened(str(body.get("project") or ""))
        return {"model_version": service.model_version}

    @app.get("/versions", dependencies=[allowed])
    @app.post("/versions", dependencies=[allowed])
    async def versions() -> dict[str, list[str]]:
        return {"versions": [service.model_version]}

    @app.post("/predict", dependencies=[allowed])
    def predict(body: PredictBody) -> dict[str, Any]:  # on a worker thread: /health stays quick
        context = (body.params or {}).get("context")
        return {"results": service.predict(body.tasks, body.label_config, context)}

    @app.post("/webhook", dependencies=[allowed])
    @app.post("/train", dependencies=[allowed])  # what old versions of Label Studio call
    async def webhook(body: dict[str, Any]) -> dict[str, str]:
        queued = service.handle_event(str(body.get("action") or body.get("event") or ""), body)
        return {"status": "queued" if queued else "ignored"}  # no `job`: it would be polled for

    @app.get("/training", dependencies=[allowed])
    def training() -> TrainingStatus:
        return service.training


def make_service(settings: Settings) -> GuideService:
    """Wire the service to the Label Studio of the settings."""
    key = settings.label_studio_api_key.get_secret_value()
    return GuideService(settings, LabelStudioClient(settings.label_studio_url, key))


def _basic_auth(settings: Settings) -> Any:  # noqa: ANN401 - FastAPI reads the inner signature
    """Make a dependency that refuses callers without the configured user and password."""
    user = settings.basic_auth_user.encode()
    password = settings.basic_auth_pass.get_secret_value().encode()

    def check(given: Annotated[HTTPBasicCredentials | None, Depends(_BASIC)]) -> None:
        if not user and not password:
            return
        same_user = given and secrets.compare_digest(given.username.encode(), user)
        same_password = given and secrets.compare_digest(given.password.encode(), password)
        if not (same_user and same_password):
            raise HTTPException(401, "wrong user or password", {"WWW-Authenticate": "Basic"})

    return check


async def _answer_malformed(request: Request, error: Exception) -> JSONResponse:
    """Say in one sentence which part of a body is missing or of a wrong kind."""
    mistakes = error.errors() if isinstance(error, RequestValidationError) else []
    where = "; ".join(f"{'.'.join(map(str, m['loc']))}: {m['msg']}" for m in mistakes)[:300]
    sentence = f"the request cannot be understood: {where}"
    logger.warning("%s: 422: %s", request.url.path, sentence)
    return JSONResponse({"detail": sentence}, 422)


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    """Say in one sentence what is wrong, in the log and in the answer."""
    status = next(code for kind, code in _STATUS.items() if isinstance(error, kind))
    logger.warning("%s: %d: %s", request.url.path, status, error)
    return JSONResponse({"detail": str(error)}, status)
