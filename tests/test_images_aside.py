"""Images within tasks wait on disk, not in the queue, whose memory is small and shared."""

import os
import threading
import time
from dataclasses import replace

import pytest
from redis_server import running_redis

from backend.annotation.label_config import LabelConfig
from backend.annotation.tasks import Task
from backend.errors import InvalidImageError
from backend.work.handover import Job, LocalJobs, read_arguments, to_arguments
from backend.work.images_aside import KEPT_S, ImagesAside
from backend.work.worker import WorkerJobs

IMAGE = "data:image/png;base64," + "A" * 1_000_000
CONFIG = LabelConfig(("Si", "Oxide"))
DATA = {"image": IMAGE, "pixel_size_nm": 0.2, "pixel_size_source": "dm4", "notes": "b" * 10_000}
TASK = Task(7, IMAGE, data=DATA, project=3)


def handed_over():
    """A job on a task that holds its image."""
    return Job("note", "ask 7", "task 7", to_arguments(TASK, CONFIG))


def test_image_is_kept_once_and_brought_back(tmp_path):
    """Of two jobs; none is left in either."""
    aside = ImagesAside(tmp_path / "images")
    put = [aside.put(to_arguments(TASK, CONFIG)) for _ in range(2)]

    assert put[0] == put[1]
    assert len(str(put[0])) < 400
    assert len(list((tmp_path / "images").iterdir())) == 1
    task, config = read_arguments(**aside.bring_back(put[0]))
    assert (task.image, task.project, config) == (IMAGE, 3, CONFIG)
    assert task.data == {"pixel_size_nm": 0.2, "pixel_size_source": "dm4"}


def test_image_that_no_job_needs_is_deleted_at_the_next_start(tmp_path):
    """Unless it was handed in again, however long ago it was written."""
    folder = tmp_path / "images"
    other = replace(TASK, image=f"{IMAGE}B")
    aside = ImagesAside(folder)
    old, again = (aside.put(to_arguments(task, CONFIG)) for task in (TASK, other))
    for file in folder.iterdir():
        os.utime(file, (time.time() - 2 * KEPT_S,) * 2)
    assert aside.put(to_arguments(other, CONFIG)) == again

    aside = ImagesAside(folder)
    assert read_arguments(**aside.bring_back(again))[0].image == other.image
    with pytest.raises(InvalidImageError, match="image of a job is gone"):
        aside.bring_back(old)


def test_other_images_stay_where_they_are(tmp_path):
    """An address is short; a job without a task has none."""
    aside = ImagesAside(tmp_path / "images")
    for arguments in (to_arguments(Task(7, "/data/a.png"), CONFIG), {"project_id": 3}, {}):
        assert aside.bring_back(aside.put(arguments)) == arguments
    assert not (tmp_path / "images").exists()


def test_image_that_is_gone_is_told(tmp_path):
    """In a sentence; nothing outside the folder is read."""
    (tmp_path / "secret").write_text("data:secret")
    aside = ImagesAside(tmp_path / "images")
    for name in ("0" * 64, "../secret", str(tmp_path / "secret")):
        with pytest.raises(InvalidImageError, match="image of a job is gone"):
            aside.bring_back({"task": {}, "image_aside": name})


def test_image_stays_in_its_job_on_a_full_disk(tmp_path, caplog):
    """It must not cost the answer."""
    (tmp_path / "images").write_text("no folder")
    arguments = to_arguments(TASK, CONFIG)
    assert ImagesAside(tmp_path / "images").put(arguments) == arguments
    assert "an image stays in its job" in caplog.text


def test_waiting_jobs_hold_no_image(tmp_path):
    """In this process: thousands may wait."""
    jobs, gate, seen = LocalJobs(tmp_path / "images"), threading.Event(), []
    jobs.serve("wait", lambda: gate.wait(10))
    jobs.serve("note", lambda task, config: seen.append(read_arguments(task, config)[0].image))
    jobs.submit(Job("wait", "wait", "wait"))
    noted = jobs.submit(handed_over())
    (waiting,) = jobs._queue._waiting.values()
    held = [cell.cell_contents for cell in waiting.work.__closure__]
    gate.set()
    noted.result(10)
    jobs.close()

    assert len(str(held)) < 2000
    assert seen == [IMAGE]


def test_redis_holds_no_image(tmp_path):
    """A worker gets it from the shared folder."""
    seen = []
    with running_redis(tmp_path) as redis:
        jobs = WorkerJobs(redis.url, 5, images=tmp_path / "images")
        jobs.serve("note", lambda task, config: seen.append(read_arguments(task, config)[0].image))
        pending = jobs.submit(handed_over())
        size = jobs.connection.memory_usage("tem-guide:requests")
        jobs.do("ask 7", lambda: None)
        pending.result(5)
        jobs.close()

    assert size < 5000
    assert seen == [IMAGE]
