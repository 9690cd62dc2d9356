"""Label Studio's editor in a real browser, by what an annotator does: paint, ask, submit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, Playwright
from playwright.sync_api import Error as PlaywrightError

FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PANEL_MARGIN_PX = 8
BORDER_PX = 4  # a stroke that begins outside the image is none
ANSWER_TIMEOUT_MS = 110_000  # Label Studio itself gives up after 100 s
LATE_ANSWER_MS = 12_000
SETTLE_MS = 400  # the editor needs a moment between a tool, a hotkey and a stroke

# Where the image lies on the screen: the canvas, and in it the zoom and the shift of the image.
VIEW = """() => {
  const image = Htx.annotationStore.selected.names.get('image');
  const canvas = image.stageRef.container().getBoundingClientRect();
  return {left: canvas.left + image.zoomingPositionX, top: canvas.top + image.zoomingPositionY,
          perColumn: image.stageWidth * image.zoomScale / image.naturalWidth,
          perRow: image.stageHeight * image.zoomScale / image.naturalHeight};
}"""
IS_DRAWN = """() => {
  const image = window.Htx?.annotationStore?.selected?.names.get('image');
  return image?.stageRef?.container() && image.naturalWidth > 1;
}"""
REGIONS = """(kind) => [...Htx.annotationStore.selected[kind].values()].map((region) => ({
  id: region.cleanId, type: region.type, labels: region.labels ?? [], origin: region.origin,
  controls: region.results.map((result) => result.from_name.name)}))"""
IS_ASK_ACTIVE = "() => Htx.annotationStore.selected.names.get('ask').children[0].selected"
ACTIVE_TOOL = """() => Htx.annotationStore.selected.names.get('image').getToolsManager()
  .findSelectedTool()?.fullName ?? ''"""

IS_READY_TO_ASK = f"() => ({IS_ASK_ACTIVE})() && ({ACTIVE_TOOL})().endsWith('-dynamic')"


def browser_path() -> str | None:
    """Find an installed browser; None leaves the choice to Playwright."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def open_browser(playwright: Playwright) -> Iterator[Browser]:
    """Start a headless browser for the length of the block."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # chromium refuses it for root
    try:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=FLAGS + sandbox)
    except PlaywrightError as error:
        if os.environ.get("REQUIRE_BROWSER") == "1" or os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no browser: {str(error).splitlines()[0]}")
    yield browser
    browser.close()


@dataclass(frozen=True)
class Editor:
    """One task, open in the editor. Positions are image pixels, (row, column)."""

    page: Page
    screenshots: Path

    def open_task(self, label_studio_url: str, project_id: int, task_id: int) -> None:
        """Open a task for annotation, with Auto-Annotation on and Auto-Accept off."""
        self.page.goto(f"{label_studio_url}/projects/{project_id}/data?task={task_id}")
        self.page.wait_for_function(IS_DRAWN)
        self.page.wait_for_timeout(1000)  # the panels move once more
        if not self.page.evaluate("() => Htx.autoAnnotation"):
            self.page.locator("text=Auto-Annotation").first.click()
        self.page.wait_for_function("() => Htx.autoAnnotation && !Htx.autoAcceptSuggestions")

    def to_screen(self, row: float, column: float) -> tuple[float, float]:
        """Tell where the centre of an image pixel lies on the screen, as (x, y)."""
        view = self.page.evaluate(VIEW)
        x = view["left"] + (column + 0.5) * view["perColumn"]
        return x, view["top"] + (row + 0.5) * view["perRow"]

    def paint(self, hotkey: str, points: Sequence[tuple[float, float]]) -> None:
        """Paint one stroke of the material with this hotkey, through `points`."""
        self.page.keyboard.press("Escape")  # else the hotkey would relabel a selected region
        self.activate_label(hotkey)
        before = len(self.regions())
        self._drag(points)
        self.page.keyboard.press("Escape")
        self.page.wait_for_timeout(SETTLE_MS)
        assert len(self.regions()) == before + 1, f"the stroke {points} did not become a region"

    def activate_label(self, hotkey: str) -> None:
        """Take the brush and choose a material, without painting."""
        self.page.locator(".lsf-tool").first.click()  # the first brush is that of `scribble`
        self.page.wait_for_timeout(SETTLE_MS)
        self.page.keyboard.press(hotkey)
        self.page.wait_for_timeout(SETTLE_MS)

    def reachable(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Mark the pixels that can be painted: not the border, nor below the panel. (H, W)."""
        self.page.locator(".lsf-tool").first.click()
        self.page.wait_for_timeout(SETTLE_MS)
        panel = self.page.locator(".lsf-range").first.bounding_box()
        assert panel is not None
        left, top = self.to_screen(0, 0)
        reachable = np.zeros(shape, dtype=bool)
        inside = slice(BORDER_PX, -BORDER_PX)
        reachable[inside, inside] = True
        column = max(0, int((panel["x"] - left) / self.scale()) - PANEL_MARGIN_PX)
        row = max(0, int((panel["y"] + panel["height"] - top) / self.scale()) + PANEL_MARGIN_PX)
        reachable[:row, column:] = False
        return reachable

    def scale(self) -> float:
        """Tell how many screen pixels an image pixel is wide."""
        return float(self.page.evaluate(VIEW)["perColumn"])

    def ask(self, row: float, column: float) -> list[dict[str, Any]]:
        """Drag a small prompt from here with the Auto-Detect tool; return the answer's results."""
        self.page.keyboard.press("Escape")
        if not self.page.evaluate(ACTIVE_TOOL).endswith("-dynamic"):
            self.page.locator(".lsf-tool_smart").first.click()
            self.page.wait_for_timeout(SETTLE_MS)
        if not self.page.evaluate(IS_ASK_ACTIVE):
            self.page.keyboard.press("u")
            self.page.wait_for_timeout(SETTLE_MS)
        self.page.wait_for_function(IS_READY_TO_ASK)
        with self.page.expect_response(
            lambda got: "/interactive-annotating" in got.url, timeout=ANSWER_TIMEOUT_MS
        ) as answer:
            self._drag([(row, column), (row + 8, column + 12), (row + 16, column + 24)])
        assert answer.value.ok, answer.value.text()
        self.page.wait_for_function("() => !Htx.awaitingSuggestions")
        self.page.wait_for_timeout(SETTLE_MS)
        return answer.value.json()["data"]["result"]

    def accept(self, *, deselect: bool = True) -> None:
        """Take the suggestions over; with `deselect`, no label is active meanwhile."""
        if deselect:
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(SETTLE_MS)
        self.page.locator("[data-testid=bottombar-accept-suggestions-button]").click()
        self.page.wait_for_function("() => Htx.annotationStore.selected.suggestions.size === 0")

    def reject(self) -> None:
        """Drop the suggestions."""
        self.page.locator("[data-testid=bottombar-reject-suggestions-button]").click()
        self.page.wait_for_function("() => Htx.annotationStore.selected.suggestions.size === 0")

    def choose(self, choice: str) -> None:
        """Tick a choice of the status."""
        self.page.locator(f"label:has-text('{choice}')").first.click()

    def submit(self) -> None:
        """Submit the annotation and wait until Label Studio has stored it."""
        with self.page.expect_response(
            lambda got: got.request.method == "POST" and "/annotations" in got.url
        ) as answer:
            self.page.locator("button:has-text('Submit')").click()
        assert answer.value.ok, answer.value.text()

    def wait_for_late_answer(self) -> None:
        """Wait for the answer that Label Studio asks for after Submit, without being asked."""
        self.page.wait_for_timeout(LATE_ANSWER_MS)

    def suggestions(self) -> list[dict[str, Any]]:
        """List the pending suggestions."""
        return self.page.evaluate(REGIONS, "suggestions")

    def regions(self) -> list[dict[str, Any]]:
        """List the regions of the annotation."""
        return self.page.evaluate(REGIONS, "areas")

    def screenshot(self, name: str) -> None:
        """Save what the browser shows."""
        self.page.screenshot(path=self.screenshots / f"{name}.png")

    def _drag(self, points: Sequence[tuple[float, float]]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.to_screen(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.to_screen(*point), steps=5)
        mouse.up()


def log_in(page: Page, label_studio_url: str, email: str, password: str) -> None:
    """Log in to Label Studio."""
    page.goto(f"{label_studio_url}/user/login/")
    page.fill("input[name=email]", email)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/user/login" not in url)
