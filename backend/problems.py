"""The last problems of this process, for people and for Prometheus: warnings and errors logged."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from backend.logs import Redactor, subject

KEPT = 30
_LONGEST = 400
"""Characters of a sentence that are kept."""


@dataclass(frozen=True)
class Problem:
    """Something that went wrong, maybe several times."""

    kind: str
    """Class of the exception, "Warning" or "Error" without one."""
    sentence: str
    task: int | None
    at: datetime
    """When it was last seen, UTC."""
    times: int = 1


class RecentProblems(logging.Handler):
    """Keeps the last problems logged, and counts all of them by kind."""

    def __init__(self, redact: Redactor) -> None:
        """Keep nothing yet; see `listening`."""
        super().__init__(logging.WARNING)
        self._redact = redact
        self._problems: OrderedDict[tuple[object, ...], Problem] = OrderedDict()
        self._counts: Counter[str] = Counter()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of all that this process logs within the block."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of one record; one that was seen before is only counted."""
        try:
            message = record.getMessage()
        except (KeyError, TypeError, ValueError):  # a template and arguments that do not fit
            self.handleError(record)
            return
        kind, sentence = kind_of(record), self._redact(message)[:_LONGEST]
        task = subject().get("task")
        at = datetime.fromtimestamp(record.created, timezone.utc)
        problem = Problem(kind, sentence, task if isinstance(task, int) else None, at)
        key = (kind, sentence, problem.task)
        before = self._problems.pop(key, None)
        self._problems[key] = replace(problem, times=before.times + 1) if before else problem
        self._counts[kind] += 1
        while len(self._problems) > KEPT:
            self._problems.popitem(last=False)

    def latest(self) -> list[Problem]:
        """The last problems, the newest first."""
        with self._locked():
            return list(reversed(self._problems.values()))

    def counts(self) -> dict[str, int]:
        """How many there were of each kind since the start."""
        with self._locked():
            return dict(self._counts)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.acquire()  # `logging` calls `emit` under the same lock
        try:
            yield
        finally:
            self.release()


def kind_of(record: logging.LogRecord) -> str:
    """Name the exception a record is about: the one raised, or the first in its arguments.

    Example:
        >>> record = logging.makeLogRecord({"args": (7, ConnectionError("gone"))})
        >>> kind_of(record)
        'ConnectionError'
    """
    if record.exc_info and record.exc_info[0]:
        return record.exc_info[0].__name__
    arguments = record.args if isinstance(record.args, tuple) else ()
    kinds = [type(one).__name__ for one in arguments if isinstance(one, BaseException)]
    return kinds[0] if kinds else record.levelname.capitalize()
