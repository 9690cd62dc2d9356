"""Hands jobs over by name, with plain arguments: to the worker's thread, or to other hosts.

A job says nothing that JSON cannot hold. Whatever it works on lies in the state folder, and there
its result is put as well, so that it does not matter which process does it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from backend.annotation.image_facts import PIXEL_SIZE_KEY, PIXEL_SIZE_KEYS, PIXEL_SOURCE_KEY
from backend.annotation.label_config import LabelConfig
from backend.annotation.tasks import Json, Task
from backend.logs import about
from backend.work.images_aside import ImagesAside
from backend.work.jobs import LatestOnly, NewestRequests, Waiting, log_failure

Lane = Literal["asked", "errand", "idle", "training"]
"""Somebody waits for the answer; Label Studio is told something; nobody waits; it trains the shared
model and may take hours."""
Work = Callable[..., object]

SCALE_KEYS = (PIXEL_SIZE_KEY, *PIXEL_SIZE_KEYS, PIXEL_SOURCE_KEY)
"""What a job is told of the data of its task."""
_LONGEST = 1000
"""Characters of each."""


@dataclass(frozen=True)
class Job:
    """What is to be done, in words that another process understands."""

    name: str  # of the work
    key: str  # of the jobs with the same key that wait, only the newest is done
    subject: str  # what it works on, such as "task 7": one job of a subject at a time
    arguments: Json = field(default_factory=dict)
    lane: Lane = "asked"
    failure: str = ""  # logged, with the reason, if it fails and nobody waits for it

    def named_in_log(self) -> AbstractContextManager[None]:
        """Name its task and project in all lines that are logged within the block."""
        task = self.arguments.get("task") or {}
        return about(
            task.get("id", self.arguments.get("task_id")),
            task.get("project", self.arguments.get("project_id")),
        )


class Pending(Protocol):
    """A job that was handed over."""

    def result(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - as a Future
        """Wait until it is done, for so many seconds; raise what it raised.

        Returns:
            What was handed over to follow it, if anything was and this process does it.

        Raises:
            CancelledError: A newer job took its place.
            TimeoutError: It is not done yet.
        """


class Jobs(Protocol):
    """Where jobs are handed over."""

    def serve(self, name: str, work: Work) -> None:
        """Do the jobs of this name by `work`, called with their arguments."""

    def submit(self, job: Job) -> Pending:
        """Hand a job over; one of the same key that waits is cancelled.

        Raises:
            RuntimeError: The process is shutting down.
        """

    def is_wanted(self, subject: str) -> bool:
        """Whether a job that nobody waits for should end, since somebody waits for another."""

    def enter(self, key: str) -> int:
        """Take note of a request for `key`; the number returned tells it from later ones."""

    def is_newest(self, key: str, number: int) -> bool:
        """Whether no other request for `key` came in since."""

    @property
    def waiting(self) -> Waiting:
        """How many jobs wait."""

    @property
    def running(self) -> tuple[str, ...]:
        """The keys of the jobs that run, such as "ask 7"."""

    @property
    def workers(self) -> int:
        """How many processes do jobs."""

    def is_elsewhere(self, key: str) -> bool | None:
        """Whether another process does a job of this key, or is to do it; None: nobody can tell."""

    def close(self) -> None:
        """Take no more jobs; let the one that runs in this process finish."""


class LocalJobs:
    """Does all jobs in this process, on the thread of a `LatestOnly`; errands on another.

    An errand waits for Label Studio, which a whole team keeps busy: for a second, as likely as not.
    No answer should wait for that.
    """

    def __init__(self, images: Path | None = None) -> None:
        """Start nothing: a thread starts with its first job.

        Args:
            images: Folder for images that came within tasks; None: they wait in memory.
        """
        self._images = ImagesAside(images)
        self._works: dict[str, Work] = {}
        self._queue = LatestOnly()
        self._errands = LatestOnly("errands")
        self._newest = NewestRequests()

    def serve(self, name: str, work: Work) -> None:
        """Do the jobs of this name by `work`."""
        self._works[name] = work

    def submit(self, job: Job) -> Future[Any]:
        """Queue a job."""
        queue = self._errands if job.lane == "errand" else self._queue
        works, images, name = self._works, self._images, job.name
        arguments = images.put(job.arguments)
        with job.named_in_log():  # it runs in a copy of this context
            queued = queue.submit(
                job.key,
                lambda: works[name](**images.bring_back(arguments)),
                when_idle=job.lane == "idle",
            )
        if job.failure:
            sentence = job.failure
            queued.add_done_callback(lambda done: log_failure(sentence, done))
        return queued

    def is_wanted(self, _subject: str) -> bool:
        """Whether any job waits that is not for idle moments."""
        return self._queue.somebody_waits

    def enter(self, key: str) -> int:
        """Take note of a request."""
        return self._newest.enter(key)

    def is_newest(self, key: str, number: int) -> bool:
        """Whether no other came in since."""
        return self._newest.is_newest(key, number)

    @property
    def waiting(self) -> Waiting:
        """How many jobs wait for the threads; nobody waits for errands."""
        jobs, errands = self._queue.waiting, self._errands.waiting
        return replace(jobs, idle=jobs.idle + errands.asked)

    @property
    def running(self) -> tuple[str, ...]:
        """The jobs on the threads."""
        return self._queue.running + self._errands.running

    @property
    def workers(self) -> int:
        """This process."""
        return 1

    def is_elsewhere(self, _key: str) -> bool:
        """There is no other process."""
        return False

    def close(self) -> None:
        """Cancel what waits, and let the jobs that run finish."""
        self._queue.close()
        self._errands.close()


def to_arguments(task: Task, config: LabelConfig) -> Json:
    """Write a task under the materials of its project as arguments of a job.

    Of its data only what tells the size of a pixel: there may be anything in it, images too.
    """
    data = {key: told for key in SCALE_KEYS if _is_short(told := task.data.get(key))}
    body = {"id": task.id, "image": task.image, "data": data, "project": task.project}
    return {"task": body, "config": {"materials": config.materials, "image_key": config.image_key}}


def _is_short(told: object) -> bool:
    """Whether somebody said something, and no more than a number or a name takes."""
    return told is not None and len(str(told)) <= _LONGEST


def read_arguments(task: Json, config: Json) -> tuple[Task, LabelConfig]:
    """Read what `to_arguments` has written; what was drawn is not among it.

    Example:
        >>> config = LabelConfig(("Si", "Oxide"))
        >>> read_arguments(**to_arguments(Task(7, "a.png"), config)) == (Task(7, "a.png"), config)
        True
    """
    return Task(**task), LabelConfig(tuple(config["materials"]), config["image_key"])


def idle_job(
    name: str, key: str, task: Task, config: LabelConfig, failure: str, **more: object
) -> Job:
    """A job on a task that nobody waits for; `more` are its further arguments."""
    arguments = {**to_arguments(task, config), **more}
    return Job(name, key, subject_of(task.id), arguments, "idle", failure)


def subject_of(task_id: int) -> str:
    """Name a task as the subject of jobs: guides of one image must not train at the same time.

    Example:
        >>> subject_of(7)
        'task 7'
    """
    return f"task {task_id}"
