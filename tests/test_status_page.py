"""The page `/status` in a real browser, as a manager reads it: numbers, words, nothing foreign."""

import logging
import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import httpx
import pytest
import uvicorn
from editor import open_browser
from label_studio_stand_in import LABEL_CONFIG, LabelStudioStandIn, list_projects
from playwright.sync_api import sync_playwright
from watched import PASSWORD, USER, watched_app, watched_settings

from backend.annotation.task_columns import TaskColumns
from backend.learning import networks
from backend.learning.registry import ModelCard, Registry
from backend.logs import Redactor, about
from backend.problems import RecentProblems
from backend.serving.overview import Overview, Progress, StateFolder
from backend.serving.status_page import StatusPage, ago, duration, moment, ratio
from backend.trials.processes import free_port
from backend.work.jobs import Waiting
from backend.work.training_process import STATUS_NAME, TrainingStatus

CARD = ModelCard(
    created="2026-11-30T11:05:00+00:00", materials=("Si", "Oxide"), parent=None,
    images={"task-1": "ab" * 32, "task-2": "cd" * 32}, metrics={"mean_iou": 0.87654},
)  # fmt: skip
EVIL = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
TASKS = {
    1: TaskColumns("new", "tem-guide-v1", 0.25),
    2: TaskColumns("scribbled", "tem-guide-v1", 0.05, turns=3, strokes=8),
    3: TaskColumns("finished", "tem-guide-v1", 0.03, turns=2, strokes=4),
    4: TaskColumns("exported", "tem-guide-v1", 0.03, turns=2, strokes=5),
}


@pytest.fixture(scope="module")
def browser():
    """Start a browser."""
    with sync_playwright() as playwright, open_browser(playwright) as browser:
        yield browser


@pytest.fixture
def settings(loopback, tmp_path):
    """Settings for a Label Studio with one project of four tasks, whose title is hostile."""
    label_studio = LabelStudioStandIn(loopback)
    for number, columns in TASKS.items():
        label_studio.set_task(number, **columns.as_data())
    project = {"id": 1, "title": f"Gates {EVIL}", "label_config": LABEL_CONFIG}
    loopback.routes["GET", "/api/projects/"] = list_projects([project])
    settings = watched_settings(loopback.url, tmp_path)
    settings.model_dir.mkdir()
    return settings


@pytest.fixture
def url(settings):
    """Serve the application on a port."""
    with served(watched_app(settings)) as url:
        yield url


@contextmanager
def served(app):
    """Run uvicorn on a thread for the length of the block."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(browser):
    """A tab without JavaScript that knows the password; it notes all that it is told to load."""
    context = browser.new_context(
        http_credentials={"username": USER, "password": PASSWORD}, java_script_enabled=False
    )
    page = context.new_page()
    page.loaded, page.errors = [], []
    page.on("request", lambda request: page.loaded.append(request.url))
    page.on("console", lambda message: page.errors.append(message.text))
    yield page
    context.close()


def read(page, url):
    """Open the page when Label Studio has told how far it is; return its sections as text."""
    deadline = datetime.now(timezone.utc) + timedelta(seconds=20)
    while datetime.now(timezone.utc) < deadline:
        page.goto(f"{url}/status")
        if "Being read" not in page.inner_text("body"):
            return {
                name: page.inner_text(f"#{name}")
                for name in ("queue", "training", "machine", "projects", "models", "problems")
            }
        page.wait_for_timeout(100)
    raise TimeoutError("Label Studio has not told how far its projects are")


def cells(text):
    """Read the rows of a table from its text."""
    return [row.split("\t") for row in text.splitlines() if "\t" in row]


def test_fresh_backend_says_that_nothing_happened_yet(page, url):
    """No error, no empty table."""
    shown = read(page, url)
    assert "Nobody waits" in shown["queue"]
    assert "Never started" in shown["training"]
    assert "None yet" in shown["models"]
    assert "None since the start" in shown["problems"]
    assert re.search(r"Memory held\s+[\d.]+ [MG]B", shown["machine"])
    assert page.locator("progress").count() == 1  # that of the project


def test_project_is_counted_by_states(page, url):
    """Half of the tasks are done; the uncertainty is their mean."""
    header, row = cells(read(page, url)["projects"])
    assert header[2:] == ["Tasks", "New", "Scribbled", "Finished", "Exported", "Mean uncertainty",
                          "Turns", "Strokes"]  # fmt: skip
    assert row[2:] == ["4", "1", "1", "1", "1", "0.090", "7", "17"]
    assert "2 of 4" in row[1]
    bar = page.locator("#projects progress")
    assert (bar.get_attribute("value"), bar.get_attribute("max")) == ("2", "4")


def test_lineage_tells_what_became_of_each_version(page, url, settings):
    """Version 3 was taken back, so version 1 serves again; 2 did not pass the gate."""
    registry = Registry(settings.registry)
    network = networks.SharedNetwork(2, "random").eval()
    for parent in (None, 1, 1):
        registry.add(network, replace(CARD, parent=parent))
    registry.publish(1)
    registry.publish(3)
    registry.roll_back()
    rows = cells(read(page, url)["models"])
    assert rows[1:] == [
        ["v0003", "rolled back", "2026-11-30 11:05 UTC", "2", "0.8765", "v0001", "Si, Oxide"],
        ["v0002", "not published", "2026-11-30 11:05 UTC", "2", "0.8765", "v0001", "Si, Oxide"],
        ["v0001", "serves now", "2026-11-30 11:05 UTC", "2", "0.8765", "-", "Si, Oxide"],
    ]


def test_damaged_versions_are_shown(page, url, settings):
    """With what is wrong: neither may look as if it had never been, nor as if it were well."""
    registry = Registry(settings.registry)
    for _ in range(3):
        registry.add(networks.SharedNetwork(2, "random").eval(), CARD)
    registry.publish(2)
    (settings.registry / "v0001" / "model.json").write_text("{")
    weights = settings.registry / "v0002" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    shown = read(page, url)["models"]
    assert [row[:2] for row in cells(shown)[1:]] == [
        ["v0003", "not published"],
        ["v0002", "serves now, damaged"],
        ["v0001", "not published, damaged"],
    ]
    assert re.search("v0001 is damaged: .*model.json cannot be read", shown)
    assert re.search("v0002 is damaged: .*holds no weights that can be read", shown)


def test_damaged_registry_is_said(page, url, settings):
    """The page is still there."""
    settings.registry.mkdir()
    (settings.registry / "published.json").write_text("[1,")
    assert "published.json cannot be read" in read(page, url)["models"]


def test_training_that_a_stop_has_cut_off_says_what_to_do(page, url, settings):
    """Start it again."""
    status = TrainingStatus("training", 1, "2026-11-30T11:05:00+00:00", 0.42)
    status.write(settings.model_dir / STATUS_NAME)
    shown = read(page, url)["training"]
    assert "Failed" in shown
    assert "start it again" in shown
    assert "Project 1, started 2026-11-30 11:05 UTC" in shown


def drawn(overview, folder):
    """Draw the page of a backend that does this."""
    problems, state = RecentProblems(Redactor()), StateFolder(folder)
    page = StatusPage(lambda: overview, Progress, problems, state, Registry(folder / "models"))
    return page.render()


def test_backend_without_a_worker_says_so(page, tmp_path):
    """All look busy, and nothing happens."""
    page.set_content(drawn(Overview(Waiting(1, 0), (), 0, TrainingStatus(), 0, 0), tmp_path))
    assert "No worker is alive" in page.inner_text("#queue")


def test_busy_backend_says_who_waits_and_what_it_does(page, tmp_path):
    """With a bar for the training that runs."""
    training = TrainingStatus("training", 1, "2026-11-30T11:05:00+00:00", 0.42)
    busy = Overview(Waiting(2, 5, 3.2), ("ask 7", "train 8"), 3, training, 2, 1)
    page.set_content(drawn(busy, tmp_path))
    assert [line for line in page.inner_text("#queue").splitlines() if line][1:] == [
        "2 requests wait", "The first for 3 s", "Now: answers task 7",
        "Now: trains the guide of task 8", "5 jobs for idle moments", "3 workers",
    ]  # fmt: skip
    assert "Training 42%" in page.inner_text("#training")
    assert page.locator("#training progress").get_attribute("value") == "0.42"


def test_problem_is_shown_with_time_and_task(page, url):
    """Twice is once, with a count."""
    logger = logging.getLogger("backend.tests")
    with about(task=7):
        for _ in range(2):
            logger.warning("task 7: drafts cannot be read: %s", ConnectionError("gone"))
    _, row = cells(read(page, url)["problems"])
    assert re.fullmatch(r"\d+ s ago", row[0])
    assert row[1:] == ["2", "7", "ConnectionError", "task 7: drafts cannot be read: gone"]


def test_hostile_words_stay_words(browser, url):
    """Titles and errors come from others: even with JavaScript on, nothing of them runs."""
    logging.getLogger("backend.tests").warning(EVIL)
    context = browser.new_context(http_credentials={"username": USER, "password": PASSWORD})
    page = context.new_page()
    shown = read(page, url)
    assert f"Gates {EVIL}" in shown["projects"]
    assert EVIL in shown["problems"]
    assert page.title() == "TEM guide: status"
    assert page.locator("script, img").count() == 0
    context.close()


def test_page_loads_nothing_else_and_renews_itself(page, url):
    """No script, no picture, no other host; its own style is allowed, and used."""
    read(page, url)
    assert set(page.loaded) == {f"{url}/status"}
    assert page.errors == []
    assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "10"
    policy = httpx.get(f"{url}/status", auth=(USER, PASSWORD), trust_env=False).headers
    assert policy["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_readable_by_day_and_by_night(browser, url, scheme):
    """Ink and paper differ by seven to one, as guidelines for people with weak eyes ask for."""
    context = browser.new_context(
        http_credentials={"username": USER, "password": PASSWORD}, color_scheme=scheme
    )
    page = context.new_page()
    read(page, url)
    paper, ink = (
        page.evaluate(f"getComputedStyle(document.querySelector('#queue')).{name}")
        for name in ("backgroundColor", "color")
    )
    bright, dim = sorted((luminance(paper), luminance(ink)), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 7
    assert (luminance(paper) < 0.5) == (scheme == "dark")
    context.close()


def luminance(color):
    """Relative luminance of "rgb(r, g, b)", 0 to 1."""
    channels = [int(n) / 255 for n in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_page_fits_a_telephone(page, url):
    """Tables scroll by themselves; the page does not."""
    page.set_viewport_size({"width": 390, "height": 800})
    read(page, url)
    assert page.locator("body").bounding_box()["width"] <= 390


def test_label_studio_that_is_down_is_said(browser, settings):
    """In red, where the projects would be, and nothing else is missing."""
    settings = settings.model_copy(update={"label_studio_url": "http://127.0.0.1:9"})
    context = browser.new_context(http_credentials={"username": USER, "password": PASSWORD})
    with served(watched_app(settings)) as url:
        shown = read(context.new_page(), url)
    assert "does not answer" in shown["projects"]
    assert "Nobody waits" in shown["queue"]
    context.close()


def test_real_projects_are_shown(browser, workplace):
    """As the real Label Studio has them; every task is in one of the states."""
    projects = list(workplace.client.projects())
    user, password = workplace.backend.user, workplace.backend.password
    context = browser.new_context(http_credentials={"username": user, "password": password})
    _, *rows = cells(read(context.new_page(), workplace.backend.url)["projects"])
    context.close()
    shown = {row[0].rpartition(" #")[0]: [int(number) for number in row[2:7]] for row in rows}
    assert shown.keys() <= {project["title"] for project in projects}
    assert shown
    for project in projects:
        total, *states = shown.get(project["title"], [0])
        tasks = list(workplace.client.tasks(project["id"])) if states else []
        assert total == len(tasks) == sum(states)


def test_words_for_times_and_numbers():
    """What is no number or no time is shown as it is, or not at all."""
    now = datetime.now(timezone.utc)
    assert [duration(s) for s in (0, 119, 120, 86400, 200000)] == ["0 s", "119 s", "2 min", "24 h",
                                                                   "2 days"]  # fmt: skip
    assert ago(now - timedelta(hours=3)) == "3 h ago"
    assert moment("some day") == "some day"
    assert (ratio(None, 2), ratio("x", 2), ratio(0.5, 2)) == ("-", "-", "0.50")
