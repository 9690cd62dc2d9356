"""What annotators and managers see of the tasks: a real Label Studio, backend and browser."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest
from editor import Editor, log_in, open_browser
from label_studio_stand_in import LABEL_CONFIG, TICK, png
from playwright.sync_api import Page, sync_playwright
from taught_network import taught_network

from backend.annotation.client import LabelStudioClient
from backend.annotation.projects import connect_backend, ensure_project, import_image
from backend.annotation.tabs import PROGRESS, TO_DO, ensure_tabs
from backend.learning.registry import Registry
from backend.trials.demo_servers import backend_server
from backend.trials.processes import free_port
from tests.test_registry import CARD

SIDE_PX = 128
NOISES = (5, 90, 30)  # gray levels, in the order of import; the more noise, the less certain
TASKS_AT_ONCE = 8
LOCKED_S = 3.0
TABLE = """() => {
  const names = [...document.querySelectorAll('.lsf-table-head .lsf-th')].map((h) => h.dataset.id);
  return [...document.querySelectorAll('.lsf-table__row-wrapper')].map((row) =>
    Object.fromEntries([...row.querySelectorAll('.lsf-table__cell')].map(
      (cell, place) => [names[place], cell.textContent])));
}"""


def halves(noise):
    """Draw a dark half above a bright one, (H, W) uint8; and its truth."""
    truth = np.repeat(np.array([0, 1], np.uint8), SIDE_PX // 2)[:, np.newaxis].repeat(SIDE_PX, 1)
    grain = np.random.default_rng(0).normal(0, noise, truth.shape)
    return np.clip(60 + 130 * truth + grain, 0, 255).astype(np.uint8), truth


@dataclass(frozen=True)
class Manager:
    """A project's Data Manager in a browser."""

    client: LabelStudioClient
    project: int
    page: Page
    address: str

    def open(self, title, rows):
        """Open a tab by its title, wait for so many rows; what they show, by column."""
        views = self.client.sdk.views.list(project=self.project)
        (tab,) = (view.id for view in views if view.data["title"] == title)
        self.page.goto(f"{self.address}?tab={tab}")
        self.page.wait_for_selector(f"text={title[:8]}")
        self.page.wait_for_function(f"() => ({TABLE})().length === {rows}")
        return self.page.evaluate(TABLE)

    def opened_task(self, *but):
        """Wait until the editor shows a task, another than those; its id."""
        self.page.wait_for_function(
            f"() => window.Htx?.task && !{list(but)}.includes(Number(Htx.task.id))"
        )
        return int(self.page.evaluate("() => Htx.task.id"))

    def wait_until(self, condition):
        """Wait for the backend; the browser goes on meanwhile."""
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, "timed out"
            self.page.wait_for_timeout(200)


@pytest.fixture
def manager(workplace, tmp_path):
    """A new project with a backend of its own, as `scripts/connect.py` leaves it."""
    client, url = workplace.client, workplace.url
    with (
        sync_playwright() as playwright,
        open_browser(playwright) as browser,
        backend_server(tmp_path, free_port(), workplace.keys, url) as backend,
    ):
        project, _ = ensure_project(client, f"Data Manager {time.time()}", LABEL_CONFIG)
        for number, noise in enumerate(NOISES):
            import_image(client, project, f"{number}.png", png(halves(noise)[0]))
        connect_backend(client, project, backend)
        ensure_tabs(client, project)
        page = browser.new_page(viewport={"width": 2000, "height": 1000})
        page.set_default_timeout(60_000)
        log_in(page, url, workplace.keys.email, workplace.keys.password)
        yield Manager(client, project, page, f"{url}/projects/{project}/data")


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_least_certain_task_comes_first_and_leaves_when_finished(manager, tmp_path):
    """After a publication, in the tab and for who labels as displayed; managers see all columns."""
    image, truth = halves(NOISES[0])
    registry = Registry(tmp_path / "backend" / "models")
    network = taught_network(image.astype(np.float32) / 255, truth, steps=20)
    registry.publish(registry.add(network, CARD).version)
    certain, least, less = sorted(task["id"] for task in manager.client.tasks(manager.project))

    manager.page.goto(manager.address)  # opens the project, which tells the backend
    manager.wait_until(
        lambda: manager.client.project(manager.project)["model_version"] == "tem-guide-v1"
    )
    assert shown_ids(manager.open(TO_DO, 3)) == [least, less, certain]

    manager.page.locator("[aria-label='Toggle open']").first.click()
    manager.page.locator("text=Label Tasks As Displayed").click()
    assert manager.opened_task() == least
    finish(Editor(manager.page, tmp_path))
    assert manager.opened_task(least) == less

    assert shown_ids(manager.open(TO_DO, 2)) == [less, certain]
    manager.wait_until(lambda: "finished" in states(manager))
    assert states(manager) == ["new", "finished", "new"]
    rows = {int(row["tasks:id"]): row for row in manager.open(PROGRESS, 3)}
    assert ours(rows[least]) | {"uncertainty": ""} == {
        "state": "finished", "model": "tem-guide-v1", "uncertainty": "", "turns": "1",
        "strokes": "2",
    }  # fmt: skip
    assert ours(rows[certain])["turns"] == "0"
    assert all(0 < float(ours(row)["uncertainty"]) < 1 for row in rows.values())


def finish(editor):
    """Paint a stroke in each half, ask, accept, tick and submit."""
    editor.page.wait_for_timeout(1000)  # the panels move once more
    if not editor.page.evaluate("() => Htx.autoAnnotation"):
        editor.page.locator("text=Auto-Annotation").first.click()
    for hotkey, row in (("1", 30), ("2", 100)):
        editor.paint(hotkey, [(row, 20), (row, 60)])
    editor.ask(8, 8)
    editor.accept()
    editor.choose("Finished GT")
    editor.submit()


def shown_ids(rows):
    """The tasks in the order of a tab."""
    return [int(row["tasks:id"]) for row in rows]


def states(manager):
    """The states that the data of the tasks tells, by id."""
    tasks = manager.client.tasks(manager.project)
    return [task["data"].get("guide_state") for task in tasks]


def ours(row):
    """The columns that the backend fills."""
    names = ("state", "model", "uncertainty", "turns", "strokes")
    return {name: row[f"tasks:data.guide_{name}"] for name in names}


@pytest.mark.timeout(300)
def test_submission_is_counted_while_columns_are_written(workplace, demo_folder):
    """Else the task would stay among those to do, and be handed out again.

    Label Studio's database is locked for a moment: so what writes has read before, and writes when
    others have written. A PATCH of the task lost the count of a third of the submissions.
    """
    client = workplace.client
    project, _ = ensure_project(client, f"Counted {time.time()}", LABEL_CONFIG)
    for number in range(TASKS_AT_ONCE):
        import_image(client, project, f"{number}.png", png(halves(0)[0]))
    tasks = [task["id"] for task in client.tasks(project)]

    def submit(task):
        client.sdk.annotations.create(id=task, result=[TICK])

    def show(task):
        client.show_in_task(project, task, {"guide_turns": 1})

    database = demo_folder / "label-studio" / "label_studio.sqlite3"
    with ThreadPoolExecutor(2 * TASKS_AT_ONCE) as pool:
        with closing(sqlite3.connect(database, isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            work = [pool.submit(write, task) for task in tasks for write in (show, submit)]
            time.sleep(LOCKED_S)
        for done in work:
            done.result()

    for task in client.tasks(project):
        assert (task["total_annotations"], task["is_labeled"]) == (1, True)
        assert task["data"]["guide_turns"] == 1
