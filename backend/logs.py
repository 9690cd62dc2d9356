"""Log lines as text or JSON, each with the task and project it concerns, none with a secret.

Code logs as ever, by the standard library. What a line is about is bound around the work:

    with about(task=7):
        logger.info("learned", extra={"event": "turn", "seconds": 1.2})

Threads that take work over run it in a copy of the context in which it was handed in.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import structlog
from pydantic import SecretStr
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from backend.settings import Settings

EXTRAS = ("event", "seconds")
"""What a call may give in `extra` beside its sentence."""
_LEADING = ("time", "level", "logger", "message")
_QUERY = re.compile(r"""((?:\b\w+://|"[A-Z]+ )[^\s?"'<>]*)\?[^\s"'<>]+""")
_USER = re.compile(r"(\b\w+://)[^\s/@]+@")
_WEB_TOKEN = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*")
_SHORTEST_SECRET = 4  # a shorter one would be found in innocent words


class Redactor:
    """Takes out of a text what must not be read by others."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Take the secrets known; those in addresses and web tokens are recognised by form."""
        known = sorted({s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets, and without the queries of addresses.

        Example:
            >>> Redactor(["hunter22"])("GET http://me:pw@ls/data?sig=1 with hunter22")
            'GET http://***@ls/data with ***'
        """
        text = _WEB_TOKEN.sub("***", _USER.sub(r"\1***@", _QUERY.sub(r"\1", text)))
        return self._known.sub("***", text) if self._known else text


def redactor_of(settings: Settings) -> Redactor:
    """Make a redactor that knows every secret of the settings, also as basic auth sends them."""
    values = [getattr(settings, name) for name in type(settings).model_fields]
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    password = settings.basic_auth_pass.get_secret_value()
    sent = base64.b64encode(f"{settings.basic_auth_user}:{password}".encode()).decode()
    return Redactor([*secrets, *([sent] if password else [])])


@contextmanager
def about(task: object = None, project: object = None) -> Iterator[None]:
    """Name the task and the project in all lines that are logged within the block."""
    named = {"task": task, "project": project}
    with structlog.contextvars.bound_contextvars(
        **{name: value for name, value in named.items() if value not in (None, "")}
    ):
        yield


def subject() -> dict[str, object]:
    """What lines logged here and now are about."""
    return structlog.contextvars.get_contextvars()


def configure_logging(settings: Settings) -> None:
    """Write what is logged to standard error, in the format of the settings."""
    handler = logging.StreamHandler()
    handler.setFormatter(make_formatter(settings.log_format, redactor_of(settings)))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    # at DEBUG it shows headers of answers, and so the cookies of Label Studio
    logging.getLogger("httpcore").setLevel(logging.WARNING)


def make_formatter(log_format: str, redact: Redactor) -> logging.Formatter:
    """Make what turns a record into a line: JSON with `log_format` "json", else text."""

    def without_secrets(_logger: object, _method: str, line: EventDict) -> EventDict:
        return {key: redact(v) if isinstance(v, str) else v for key, v in line.items()}

    render: Processor = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    return ProcessorFormatter(
        processors=[
            _describe,
            structlog.stdlib.ExtraAdder(EXTRAS),
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            ProcessorFormatter.remove_processors_meta,
            without_secrets,
            render if log_format == "json" else _as_text,
        ],
        foreign_pre_chain=[structlog.processors.TimeStamper(fmt="iso", key="time")],
    )


def _describe(_logger: object, _method: str, line: EventDict) -> EventDict:
    record: logging.LogRecord = line["_record"]
    message = line.pop("event")
    return {
        "time": line.pop("time"),
        "level": record.levelname,
        "logger": record.name,
        "message": message,
        **line,
    }


def _as_text(_logger: object, _method: str, line: EventDict) -> str:
    """One line, but for a traceback; line breaks of a message could pass for lines of ours."""
    traceback = line.pop("exception", None)
    time, level, logger, message = (str(line.pop(name)) for name in _LEADING)
    details = " ".join(f"{key}={value}" for key, value in sorted(line.items()))
    text = f"{time} {level} {logger}: {message}{f' [{details}]' if details else ''}"
    text = text.replace("\r", "\\r").replace("\n", "\\n")
    return f"{text}\n{traceback}" if traceback else text
