"""The annotator's story in the real Label Studio, with the real backend and a real browser."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from annotator import along, corrections, first_strokes, mean_iou, strokes_in
from editor import Editor, log_in, open_browser
from PIL import Image
from playwright.sync_api import sync_playwright
from scipy import ndimage

from backend.annotation.ground_truth import compose_label_map
from backend.annotation.label_config import parse_label_config, write_label_config
from backend.annotation.projects import connect_backend, ensure_project, import_image
from backend.annotation.rle import decode_mask
from backend.annotation.scribbles import rasterize, weak_labels
from backend.annotation.tasks import parse_annotation, parse_results
from backend.arrays import UNLABELED
from backend.learning.labeled_images import folder_images
from backend.microscope.images import decode_image
from backend.microscope.synthetic import make_image
from backend.trials.demo_images import DemoImage, as_png
from scripts.export_ground_truth import main as export

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

EBC = Path(__file__).parents[2] / "shared" / "data" / "ebc_layers"
EBC_MATERIALS = ("upper layer", "oxide film", "crack", "lower layer")
SCREENSHOTS = Path(__file__).parents[1] / "test-output"
BRUSH_SCREEN_PX = 15  # Label Studio's default brush, in screen pixels
ROUNDS = 4
PROMPT = (8, 8)  # where the prompt is drawn does not matter


@dataclass(frozen=True)
class Case:
    """An image with its truth."""

    name: str
    image: DemoImage
    truth: np.ndarray  # (H, W), class per pixel
    materials: tuple[str, ...]


def gate_case():
    """A part of a synthetic gate, 256 px: shown larger, the brush fits into its thin walls."""
    drawn = make_image("gate", "A", seed=1)
    cut = np.s_[200:456, 128:384]  # shows all four materials
    png = as_png(np.ascontiguousarray(drawn.image[cut]))
    truth = np.ascontiguousarray(drawn.label_map[cut])
    return Case("gate", DemoImage("gate.png", png), truth, drawn.materials)


def ebc_case():
    """A real image of layers with four materials, cut to 512 px."""
    if not EBC.is_dir():
        pytest.skip("the real images are not here")
    cut = np.s_[256:768, 512:1024]  # shows all four, and cracks wider than the brush
    image, truth = (
        np.asarray(Image.open(EBC / folder / "040617-3_S0410028.png"))[cut]
        for folder in ("images", "masks")
    )
    png = as_png(image)
    return Case("ebc", DemoImage("ebc.png", png), truth, EBC_MATERIALS)


@pytest.fixture(scope="module")
def browser():
    """Start a browser, before anything slower."""
    with sync_playwright() as playwright, open_browser(playwright) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, workplace):
    """Log in to Label Studio."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(60_000)  # a machine that also trains is slow at times
    log_in(page, workplace.url, workplace.keys.email, workplace.keys.password)
    return page


@pytest.fixture
def dataset(workplace, demo_folder, monkeypatch, tmp_path):
    """Set the environment as for the running backend; name a folder to export to."""
    monkeypatch.setenv("LABEL_STUDIO_URL", workplace.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", workplace.keys.token)
    monkeypatch.setenv("MODEL_DIR", str(demo_folder / "backend"))
    return tmp_path / "dataset"


def open_case(workplace, page, case):
    """Make a project of one image and open it; return the editor and the task id."""
    client = workplace.client
    config = write_label_config(case.materials)
    project_id, _ = ensure_project(client, f"Test {case.name}", config)
    import_image(client, project_id, case.image.name, case.image.content)
    connect_backend(client, project_id, workplace.backend)
    task_id = max(task.id for task in client.sdk.tasks.list(project=project_id))
    SCREENSHOTS.mkdir(exist_ok=True)
    editor = Editor(page, SCREENSHOTS)
    editor.open_task(workplace.url, project_id, task_id)
    return editor, task_id


def paint_all(editor, strokes):
    """Paint strokes with the hotkeys of their materials: 1 for the first one, and so on."""
    for stroke in strokes:
        editor.paint(str(stroke.label + 1), [stroke.points[0], stroke.points[-1]])


def paintable(editor, case):
    """Return the truth where the mouse can reach it, `UNLABELED` elsewhere. -> (H, W)."""
    return np.where(editor.reachable(case.truth.shape), case.truth, UNLABELED)


def label_map_of(results, case):
    """Put the suggested masks together. -> (H, W)."""
    label_map = np.full(case.truth.shape, UNLABELED, dtype=np.uint8)
    for region in parse_results(results):
        if region.control == "seg":
            mask = decode_mask(region.rle, case.truth.shape) >= 128
            label_map[mask] = case.materials.index(region.label)
    return label_map


def boxes_of(results):
    """List the boxes of an answer."""
    return [result for result in results if result["from_name"] == "uncertain"]


def places_of(boxes):
    """Rows and columns of boxes."""
    places = []
    for box in boxes:
        value, height, width = box["value"], box["original_height"], box["original_width"]
        top, left = value["y"] / 100 * height, value["x"] / 100 * width
        rows = slice(round(top), round(top + value["height"] / 100 * height))
        places.append((rows, slice(round(left), round(left + value["width"] / 100 * width))))
    return places


def annotate(editor, case):
    """Paint and ask, then paint in the boxes and where it is wrong, and ask again.

    Returns all strokes painted, and the answer to each ask.
    """
    radius_px = BRUSH_SCREEN_PX / 2 / editor.scale() + 2
    truth = paintable(editor, case)
    strokes = first_strokes(truth, radius_px)
    paint_all(editor, strokes)
    answers = [editor.ask(*PROMPT)]
    editor.screenshot(f"{case.name}-1-first-answer")
    for number in range(2, ROUNDS + 1):
        editor.reject()  # its buttons on the image would catch a stroke that begins on them
        assert len(editor.regions()) == len(strokes)  # the scribbles survive, the prompt goes
        shown = label_map_of(answers[-1], case)
        painted = strokes_in(places_of(boxes_of(answers[-1])), truth, radius_px)
        painted += corrections(truth, shown, radius_px, count=3)
        paint_all(editor, painted)
        strokes += painted
        answers.append(editor.ask(*PROMPT))
        editor.screenshot(f"{case.name}-{number}-answer")
    return strokes, answers


@pytest.mark.parametrize("make_case", [gate_case, ebc_case])
def test_scribbles_become_finished_ground_truth(page, workplace, dataset, make_case):
    """Paint, ask, paint where it is wrong, ask again, accept, tick, submit and export."""
    case = make_case()
    editor, task_id = open_case(workplace, page, case)

    strokes, answers = annotate(editor, case)
    suggestions = editor.suggestions()
    editor.accept()
    editor.choose("Finished GT")
    editor.screenshot(f"{case.name}-finished")
    editor.submit()
    editor.wait_for_late_answer()

    assert editor.suggestions() == []  # Label Studio asks after Submit, nobody else did
    assert {region["labels"][0] for region in suggestions} == {*case.materials, "Uncertain"}
    assert len(suggestions) == len(case.materials) + len(boxes_of(answers[-1]))
    check_progress(case, answers)
    check_stored(workplace, case, task_id, strokes, answers[-1])
    check_exported(workplace, case, task_id, (strokes, answers[-1]), dataset)


def check_progress(case, answers):
    """Each answer shows boxes, and scribbling where it was wrong made it better."""
    overlaps = [mean_iou(case.truth, label_map_of(results, case)) for results in answers]
    (SCREENSHOTS / f"{case.name}.json").write_text(json.dumps({"mean_iou": overlaps}))
    assert all(boxes_of(results) for results in answers)
    assert overlaps[-1] > overlaps[0]


def check_stored(workplace, case, task_id, strokes, answer):
    """Label Studio stored the status, the masks and the scribbles as they were shown."""
    annotation, config = stored(workplace, case, task_id)
    truth = compose_label_map(annotation, config, {}, case.truth.shape)
    accepted = untouched(strokes, case)  # elsewhere strokes win
    assert annotation.finished
    assert np.mean((truth.label_map == label_map_of(answer, case))[accepted]) > 0.999
    check_scribbles(annotation, config, strokes, case)


def check_exported(workplace, case, task_id, work, dataset):
    """The command brings image and masks to disk, beside the running backend; twice the same."""
    strokes, answer = work
    accepted = untouched(strokes, case)
    project_id = workplace.client.task(task_id)["project"]
    for _ in range(2):
        assert export([str(project_id), "--out", str(dataset), "--coco"]) == 0
    (exported,) = folder_images(dataset, count=2)
    (entry,) = json.loads((dataset / "manifest.json").read_text())["images"]
    assert (exported.image == decode_image(case.image.content)).all()
    assert np.mean((exported.truth == label_map_of(answer, case))[accepted]) > 0.999
    assert (entry["task"], entry["materials"]) == (task_id, list(case.materials))
    assert entry["share_by_origin"]["accepted"] > 0.9


def stored(workplace, case, task_id):
    """Read the one annotation of a task back; return it with the labeling config."""
    (listed,) = workplace.client.task(task_id)["annotations"]
    annotation = parse_annotation(workplace.client.annotation(listed["id"]))
    return annotation, parse_label_config(write_label_config(case.materials))


def check_scribbles(annotation, config, strokes, case):
    """The weak labels lie on the drawn paths, and nowhere else."""
    regions, _ = weak_labels(annotation.regions, config, {})
    label_map = rasterize(regions, config.materials, case.truth.shape)
    for stroke in strokes:
        assert np.mean(label_map[along(stroke)] == stroke.label) > 0.9
    assert len(regions) == len(strokes)
    assert not (label_map != UNLABELED)[untouched(strokes, case)].any()


def untouched(strokes, case):
    """Pixels that no brush has come near. Shape (H, W)."""
    painted = np.zeros(case.truth.shape, dtype=bool)
    for stroke in strokes:
        painted[along(stroke)] = True
    return distance_to(painted) > 2 * BRUSH_SCREEN_PX


def distance_to(mask):
    """Distance of each pixel to the nearest one in `mask`, px. (H, W) -> (H, W)."""
    return ndimage.distance_transform_edt(~mask)


def test_accepting_with_a_label_active_adds_no_weak_labels(page, workplace):
    """Label Studio then writes the label on every accepted region; those are dropped."""
    case = replace(gate_case(), name="label active")
    editor, task_id = open_case(workplace, page, case)
    strokes = first_strokes(paintable(editor, case), BRUSH_SCREEN_PX / 2)
    paint_all(editor, strokes)
    answer = editor.ask(*PROMPT)

    editor.activate_label("1")
    editor.accept(deselect=False)
    editor.submit()

    annotation, config = stored(workplace, case, task_id)
    scribbles = [region for region in annotation.regions if region.control == "scribble"]
    kept, _ = weak_labels(annotation.regions, config, {})
    truth = compose_label_map(annotation, config, {}, case.truth.shape)
    assert len(scribbles) > len(strokes)  # without the bug of Label Studio, this test can go
    assert len(kept) == len(strokes)
    assert np.mean(truth.label_map == label_map_of(answer, case)) > 0.999
