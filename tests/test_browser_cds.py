"""What Label Studio's own editor does to the edges that CDs stand on, and shows of the CDs."""

from __future__ import annotations

import numpy as np
import pytest
from editor import IS_DRAWN, Editor, log_in, open_browser
from label_studio_sdk.converter.brush import mask2rle
from playwright.sync_api import sync_playwright
from test_cd_guidance import MATERIALS, RECIPE, gate_picture

from backend.annotation.label_config import write_label_config
from backend.annotation.projects import connect_backend, ensure_project, import_image
from backend.annotation.rle import decode_mask
from backend.annotation.scribbles import stroke_mask
from backend.annotation.tasks import Touch
from backend.microscope.synthetic import make_image
from backend.trials.demo_images import as_png
from backend.trials.demo_servers import backend_server
from backend.trials.processes import free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

TOUCHES = """() => [...Htx.annotationStore.selected.areas.values()].flatMap((region) =>
  (region.touches ?? []).map((touch) => ({id: region.cleanId,
    points: [...touch.relativePoints], width: touch.relativeStrokeWidth})))"""
SELECT_BOX = """() => { const store = Htx.annotationStore.selected;
  const box = [...store.areas.values()].find((region) => region.type === 'rectangleregion');
  store.selectArea(box); }"""


@pytest.fixture(scope="module")
def page(workplace):
    """Start a browser and log in to Label Studio."""
    with sync_playwright() as playwright, open_browser(playwright) as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(120_000)
        log_in(page, workplace.url, workplace.keys.email, workplace.keys.password)
        yield page


def new_task(client, title, materials, image):
    """A project of one image; return its number and that of its task."""
    project, _ = ensure_project(client, title, write_label_config(materials))
    import_image(client, project, "gate.png", as_png(image))
    return project, max(task.id for task in client.sdk.tasks.list(project=project))


def submitted(client, task_id):
    """The annotation that was submitted."""
    (listed,) = client.task(task_id)["annotations"]
    return client.annotation(listed["id"])


def seg_result(index, material, mask):
    """A mask as a prediction holds it, encoded by Label Studio's own converter."""
    height, width = mask.shape
    return {
        "id": f"seg{index}", "from_name": "seg", "to_name": "image", "type": "brushlabels",
        "original_width": width, "original_height": height, "image_rotation": 0,
        "value": {"format": "rle", "rle": mask2rle(255 * mask.astype(np.uint8)),
                  "brushlabels": [material]},
    }  # fmt: skip


def open_plain(page, workplace, project, task_id, folder):
    """Open a task of a project without a backend."""
    page.goto(f"{workplace.url}/projects/{project}/data?task={task_id}")
    page.wait_for_function(IS_DRAWN)
    page.wait_for_timeout(1500)  # the panels move once more
    return Editor(page, folder)


def test_masks_and_strokes_keep_their_edges(page, workplace, tmp_path):
    """Accepted masks come back as they were; strokes lie where they were painted, in the mean."""
    drawn = make_image("gate", "A", 1, (256, 256))
    materials, truth = drawn.materials, drawn.label_map
    project, task_id = new_task(workplace.client, "Edges", materials, drawn.image)
    results = [seg_result(i, name, truth == i) for i, name in enumerate(materials)]
    workplace.client.sdk.predictions.create(task=task_id, result=results, model_version="exact")
    editor = open_plain(page, workplace, project, task_id, tmp_path)
    for row in (40, 70, 100, 130):
        editor.paint("1", [(row, 60), (row + 3.4, 150)])
        editor.paint("2", [(60, row + 50), (150, row + 53.4)])
    touches = {one["id"]: one for one in page.evaluate(TOUCHES)}
    editor.submit()

    annotation = submitted(workplace.client, task_id)
    masks = [one for one in annotation["result"] if one["from_name"] == "seg"]
    label_map = np.full(truth.shape, 255, np.uint8)
    for one in masks:
        mask = decode_mask(one["value"]["rle"], truth.shape) >= 128
        label_map[mask] = materials.index(one["value"]["brushlabels"][0])
    strokes = [one for one in annotation["result"] if one["from_name"] == "scribble"]
    missed = np.array([missed_px(one, touches[one["id"]], truth.shape) for one in strokes])
    assert (label_map == truth).all()
    assert len(missed) == 8
    assert np.abs(missed.mean(axis=0)).max() < 0.1, missed
    assert np.abs(missed).max() < 0.3, missed


def missed_px(result, touch, shape):
    """How far a stored stroke lies off what was painted: place, width, and ours against it."""
    alpha = decode_mask(result["value"]["rle"], shape) >= 128
    height, width = shape
    points = np.array(touch["points"]).reshape(-1, 2)[:, ::-1] / 100 * [height, width] - 0.5
    across = int(np.ptp(points[:, 0]) > np.ptp(points[:, 1]))  # 1: it runs down
    stroke = alpha if across == 0 else alpha.T
    ends = points if across == 0 else points[:, ::-1]
    columns = np.arange(ends[:, 1].min() + 15, ends[:, 1].max() - 15).astype(int)
    slope, offset = np.polyfit(ends[:, 1], ends[:, 0], 1)
    rows = np.arange(stroke.shape[0])[:, None]
    inside = stroke[:, columns]
    middle = (rows * inside).sum(axis=0) / inside.sum(axis=0) - (offset + slope * columns)
    wanted = touch["width"] / 100 * width * np.hypot(1, slope)
    ours = stroke_mask(Touch(False, points, touch["width"] / 100 * width), shape)
    return (
        middle.mean(),
        inside.sum(axis=0).mean() - wanted,
        (ours.sum() - alpha.sum()) / len(columns),
    )


def test_a_box_tells_in_its_details_what_it_moves(page, workplace, tmp_path):
    """With CD_RECIPE: the annotator selects a box and reads which CD it moves, and by how much."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    settings = {"CD_RECIPE": str(recipe), "CD_TIMEOUT_S": "60"}
    keys, client = workplace.keys, workplace.client
    with backend_server(tmp_path, free_port(), keys, workplace.url, settings) as backend:
        project, task_id = new_task(client, "CD boxes", MATERIALS, gate_picture())
        client.change_data(task_id, {"pixel_size_nm": 0.5})
        connect_backend(client, project, backend)
        editor = Editor(page, tmp_path)
        editor.open_task(workplace.url, project, task_id)
        for hotkey, row, column in (("1", 112, 40), ("2", 20, 40), ("3", 62, 58)):
            editor.paint(hotkey, [(row, column), (row, column + 12)])
        editor.ask(8, 8)
        editor.accept()
        page.evaluate(SELECT_BOX)
        page.get_by_text("rank 1: moves width at 0.5 of gate 0 by").first.wait_for()
        page.get_by_text("CDs within tolerance:").first.wait_for()
