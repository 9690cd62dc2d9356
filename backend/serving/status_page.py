"""The page `/status`: what a manager wants to know, without JavaScript and without other hosts.

All that is shown is escaped; the page allows the browser nothing but its own style.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import jinja2
from markupsafe import Markup

from backend.errors import RegistryError
from backend.learning.registry import ModelCard, Registry
from backend.memory import resident_bytes
from backend.problems import RecentProblems
from backend.serving.overview import Overview, Progress, StateFolder
from backend.work.training_process import ENDED

REFRESH_S = 10
_FOLDER = Path(__file__).parent
_STYLE = (_FOLDER / "status_page.css").read_text()
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_DOING = {
    "ask": "answers task",
    "CDs": "measures the CDs of task",
    "columns": "shows Label Studio the state of task",
    "keep up": "looks for old predictions in project",
    "learn submitted": "learns from what was submitted of task",
    "open": "opens task",
    "prediction": "shows Label Studio the prediction of task",
    "release": "lets the guide go of task",
    "renew": "renews the prediction of task",
    "renewed": "shows Label Studio the prediction of task",
    "renew new tasks of": "looks for new tasks in project",
    "renew tasks of": "looks for tasks to predict in project",
    "segment": "segments task",
    "submission": "reads what was submitted of task",
    "train": "trains the guide of task",
    "version": "tells Label Studio which model serves project",
}
"""Jobs by the words of their key, for people."""


@dataclass(frozen=True)
class Model:
    """A version of the shared model, and what became of it."""

    name: str
    card: ModelCard | None
    """None if it cannot be read."""
    standing: str
    damage: str
    """What is wrong with its files, in words; empty if nothing is."""


class StatusPage:
    """Draws the page, anew for each request."""

    def __init__(
        self,
        overview: Callable[[], Overview],
        progress: Callable[[], Progress],
        problems: RecentProblems,
        state: StateFolder,
        registry: Registry,
    ) -> None:
        """Take what tells how things are; nothing is read yet."""
        self._overview = overview
        self._progress = progress
        self._problems = problems
        self._state = state
        self._registry = registry
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        environment.filters.update(
            ago=ago, bytes=in_bytes, doing=doing, duration=duration, moment=moment,
            percent=percent, ratio=ratio,
        )  # fmt: skip
        self._template = environment.get_template("status_page.html")

    def render(self) -> str:
        """The page as it is now, HTML."""
        overview = self._overview()
        models, registry_failure = _models(self._registry)
        return self._template.render(
            now=datetime.now(timezone.utc),
            refresh_s=REFRESH_S,
            style=Markup(_STYLE),  # noqa: S704 - our own file
            overview=overview,
            trains=overview.training.state not in ENDED,
            progress=self._progress(),
            problems=self._problems.latest(),
            models=models,
            registry_failure=registry_failure,
            memory=_memory_held(),
            state_bytes=self._state.nbytes,
            free_bytes=self._state.free_bytes,
        )


def standing(version: int, history: Sequence[int], rolled_back: set[int]) -> str:
    """Say in words what became of a version of the shared model.

    Example:
        >>> standing(1, [1, 2], set())
        'served before'
    """
    if version in history:
        return "serves now" if version == history[-1] else "served before"
    return "rolled back" if version in rolled_back else "not published"


def moment(when: datetime | str) -> str:
    """Write a time for people, always in UTC: the server does not know theirs.

    Example:
        >>> moment("2026-11-30T12:05:07+01:00")
        '2026-11-30 11:05 UTC'
    """
    try:
        when = datetime.fromisoformat(when) if isinstance(when, str) else when
    except ValueError:
        return str(when)
    return f"{when.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def ago(when: datetime) -> str:
    """Write how long ago something was."""
    return f"{duration((datetime.now(timezone.utc) - when).total_seconds())} ago"


def duration(seconds: float) -> str:
    """Write a time span in its largest unit.

    Example:
        >>> duration(4), duration(150), duration(7300)
        ('4 s', '2 min', '2 h')
    """
    for limit, step, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0) / step:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def doing(job: str) -> str:
    """Write the name of a job for people.

    Example:
        >>> doing("train 7")
        'trains the guide of task 7'
    """
    words, _, number = job.rpartition(" ")
    return f"{_DOING[words]} {number}" if words in _DOING else job


def in_bytes(count: int | None) -> str:
    """Write a size in MB or GB.

    Example:
        >>> in_bytes(1_234_000_000), in_bytes(12_300_000)
        ('1.2 GB', '12 MB')
    """
    if count is None:
        return "unknown"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"  # noqa: PLR2004 - 1 GB


def percent(share: float) -> str:
    """Write a share of 1 in whole percent."""
    return f"{share:.0%}"


def ratio(value: object, digits: int) -> str:
    """Write a number between 0 and 1; a dash for what is none."""
    return f"{value:.{digits}f}" if isinstance(value, float | int) else "-"


def _models(registry: Registry) -> tuple[list[Model], str]:
    """All versions, the newest first, and what is wrong with the registry, if anything is."""
    try:
        history, rolled_back, failure = registry.history(), registry.rolled_back(), ""
    except RegistryError as error:
        history, rolled_back, failure = [], set(), str(error)
    models = []
    for version in reversed(registry.versions()):
        card = None
        try:
            card = registry.card(version)
            damage = registry.damage(card)
        except RegistryError as error:
            damage = str(error)
        place = "unknown" if failure else standing(version, history, rolled_back)
        models.append(Model(f"v{version:04d}", card, place, damage))
    return models, failure


def _memory_held() -> int | None:
    try:
        return resident_bytes()[0]
    except OSError:
        return None
