"""Boxes ranked by CDs, and the report of the CDs, as Label Studio gets them."""

import numpy as np
import pytest
from label_studio_stand_in import LabelStudioStandIn, draft, png, prompt, stroke
from loopback import Answer
from scipy import ndimage as ndi
from test_server import SMALL_GUIDE, wait_until

from backend.annotation.client import LabelStudioClient
from backend.annotation.label_config import write_label_config
from backend.serving.service import GuideService
from backend.settings import Settings
from backend.work.cd_guidance import LATE

SIDE_PX = 128
MATERIALS = ("Si", "Oxide", "Metal")
LABEL_CONFIG = write_label_config(MATERIALS)
ASK = {"result": [prompt()]}
RECIPE = """
schema: tem-cd-recipe/1
name: one_gate
version: 1
materials: {si: Si, ox: Oxide, gate: Metal}
frame: {between: [si, ox]}
structures:
  gate: {materials: [gate], base: {interface_with: ox}, min_area_px2: 150}
measurements:
  - {id: width, kind: width, of: gate, at: {fraction: 0.5}}
  - {id: height, kind: height, of: gate}
annotation: {u_max_nm: {width: 0.001, height: 5.0}}
"""


def gate_picture():
    """Draw a gate of metal over silicon in oxide; its left wall is a wide slope of gray."""
    labels = np.ones((SIDE_PX, SIDE_PX), np.uint8)
    labels[92:], labels[28:86, 44:84] = 0, 2
    gray = np.array([70.0, 140.0, 220.0])[labels]
    vague = ndi.gaussian_filter(gray, 5)
    gray[45:80, 32:56] = vague[45:80, 32:56]
    noise = np.random.default_rng(0).normal(0, 10, gray.shape)
    return np.clip(ndi.gaussian_filter(gray, 1) + noise, 0, 255).astype(np.uint8)


def short_stroke(name, label, y, x_range):
    """Paint from left to right at a height; in percent."""
    size = {"original_width": SIDE_PX, "original_height": SIDE_PX}
    made = stroke(name, label, y, **size)
    touch = {**made["value"]["touches"][0], "relativeStrokeWidth": 4,
             "relativePoints": [x_range[0], y, x_range[1], y]}  # fmt: skip
    return {**made, "value": {**made["value"], "touches": [touch]}}


STROKES = (
    short_stroke("s1", "Si", 90, (20, 80)),
    short_stroke("s2", "Oxide", 15, (20, 80)),
    short_stroke("s3", "Metal", 50, (45, 60)),
)


@pytest.fixture
def label_studio(loopback):
    """A Label Studio with one image of a gate."""
    stand_in = LabelStudioStandIn(loopback)
    loopback.answer("GET", "/data/upload/1/a.png", Answer(png(gate_picture())))
    return stand_in


@pytest.fixture
def start(label_studio, tmp_path):
    """Start the service with a recipe; each call is a restart on the same state folder."""
    started = []
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)

    def start(**changes):
        settings = Settings(
            label_studio_url=label_studio.server.url,
            label_studio_api_key="0" * 40,
            model_dir=tmp_path / "state",
            **{"cd_recipe": recipe, "cd_timeout_s": 30, **changes},
        )
        client = LabelStudioClient(settings.label_studio_url, "0" * 40, timeout_s=5)
        started.append(GuideService(settings, client, SMALL_GUIDE))
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture
def drawn_task(label_studio):
    """Make the body of the task with a stroke in each material and a prompt."""

    def make(strokes=STROKES, **data):
        data = {**label_studio.task()["data"], **data}
        return label_studio.task(data=data, drafts=[draft(*strokes, prompt())])

    return make


def boxes_of(answers):
    """List the texts of the boxes of the one answer."""
    (answer,) = answers
    return [r["meta"]["text"] for r in answer["result"] if r["from_name"] == "uncertain"]


def test_boxes_come_ranked_by_cds_and_the_report_is_there(start, drawn_task, label_studio):
    """The box that moves the width most is first, and carries where each CD stands, in nm."""
    boxes = boxes_of(start().predict([drawn_task(pixel_size_nm=0.5)], LABEL_CONFIG, ASK))

    (first, count, *cds), *others = boxes
    assert first.startswith("rank 1: moves width at 0.5 of gate 0 by ")
    assert first.endswith(" nm")
    steady = [line for line in cds if ", within" in line and "not steady" not in line]
    assert count == f"CDs within tolerance: {len(steady)}/2"
    told = {line.split(":")[0]: line for line in cds}
    value, _, u, unit, *_ = told["width at 0.5 of gate 0"].split(": ")[1].replace(",", "").split()
    assert float(value) == pytest.approx(20, abs=4)
    assert (float(u) > 0, unit) == (True, "nm")
    assert "not within 0.001" in told["width at 0.5 of gate 0"]
    assert " nm, within 5" in told["height of gate 0"]
    assert others[-1][0].split(": ", 1)[1].startswith("check: is the edge of gate 0 right here?")
    wait_until(lambda: "guide_cd_report" in label_studio.shown[7])  # the last column
    assert label_studio.shown[7]["guide_cds"] == f"{len(steady)}/2"
    assert told["height of gate 0"] in label_studio.shown[7]["guide_cd_report"]


def test_report_is_kept(start, drawn_task, label_studio):
    """After a restart the task opens with it, and with the same boxes."""
    running = start()
    asked = boxes_of(running.predict([drawn_task(pixel_size_nm=0.5)], LABEL_CONFIG, ASK))
    running.close()
    opened = boxes_of(start().predict([label_studio.task()], LABEL_CONFIG, None))
    assert opened[0][1].startswith("CDs within tolerance:")
    assert len(opened) >= 1
    assert asked


def test_pixels_are_told_without_a_pixel_size(start, drawn_task):
    """And that the tolerances, in nm, say nothing then."""
    (_, *notes), *_ = boxes_of(start().predict([drawn_task()], LABEL_CONFIG, ASK))
    assert any("is assumed" in note for note in notes)
    assert any(note.startswith("width") and " px, " in note for note in notes)
    assert not any(note.startswith("width") and " nm" in note for note in notes)


def test_implausible_pixel_size_is_not_used(start, drawn_task):
    """A thousand times too large: a wrong number would look right."""
    (_, *notes), *_ = boxes_of(
        start().predict([drawn_task(pixel_size_nm=500.0)], LABEL_CONFIG, ASK)
    )
    assert "not plausible" in notes[0]
    assert any(note.startswith("width") and " px, " in note for note in notes)


def test_project_of_other_materials_gets_ordinary_boxes(start, drawn_task, caplog):
    """The log and the answer name the material."""
    two = write_label_config(MATERIALS[:2])
    boxes = boxes_of(start().predict([drawn_task(STROKES[:2])], two, ASK))
    assert "the project has no Metal" in caplog.text
    assert any("the project has no Metal" in text for text in boxes[0])
    assert not any("moves" in box[0] or "check" in box[0] for box in boxes)


def test_without_a_recipe_nothing_is_said(start, drawn_task, label_studio):
    """Boxes by doubt, as ever."""
    boxes = boxes_of(start(cd_recipe=None).predict([drawn_task()], LABEL_CONFIG, ASK))
    assert all(len(box) == 1 for box in boxes)
    wait_until(lambda: "guide_strokes" in label_studio.shown[7])
    assert "guide_cds" not in label_studio.shown[7]


def test_report_that_takes_too_long_comes_later(start, drawn_task, label_studio):
    """The answer has boxes by doubt and says so; when nobody waits they are replaced."""
    running = start(cd_timeout_s=0)
    boxes = boxes_of(running.predict([drawn_task(pixel_size_nm=0.5)], LABEL_CONFIG, ASK))
    assert boxes[0][1] == LATE
    assert not any("moves" in box[0] for box in boxes)
    wait_until(lambda: label_studio.shown[7].get("guide_cds", "not yet") != "not yet")
    opened = boxes_of(running.predict([label_studio.task()], LABEL_CONFIG, None))
    assert opened[0][1].startswith("CDs within tolerance:")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "cannot be read"), ("schema: tem-cd-recipe/1\nnaem: gate\n", "naem")],
)
def test_recipe_that_cannot_be_read_is_refused_at_the_start(start, tmp_path, content, sentence):
    """With the setting and the reason."""
    path = tmp_path / "other.yaml"
    if content:
        path.write_text(content)
    with pytest.raises(ValueError, match=f"(?s)CD_RECIPE.*{sentence}"):
        start(cd_recipe=path)
