"""What the guide believes, as Label Studio shows it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface
from regions import CONFIG
from skimage.measure import label

from backend.annotation.label_config import write_label_config
from backend.annotation.predictions import sent_regions, smooth_for_display, to_results
from backend.annotation.scribbles import rasterize
from backend.annotation.tasks import parse_results
from backend.arrays import UNLABELED
from backend.learning.spots import Spot

SPOT = Spot(row=8, column=4, height=6, width=10, score=0.91, reason="Metal or Oxide, 48/47 %")
HALVES = np.repeat(np.array([[0, 1]], dtype=np.uint8), 20, axis=1).repeat(30, axis=0)  # (30, 40)
label_maps = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=2, max_side=30),
    elements=st.sampled_from([0, 1, 3, 255]),
)


def speckled(label_map, share=0.03):
    """Give random pixels a random material."""
    generator = np.random.default_rng(0)
    wrong = generator.random(label_map.shape) < share
    noise = generator.integers(0, 4, label_map.shape, dtype=np.uint8)
    return np.where(wrong, noise, label_map)


def film(angle_degrees, thickness_px):
    """Draw a long straight film of material 1 through material 0, (100, 100)."""
    rows, columns = np.mgrid[:100, :100] - 49.5
    angle = np.deg2rad(angle_degrees)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    return ((across > -thickness_px / 2) & (across <= thickness_px / 2)).astype(np.uint8)


def test_one_mask_a_material_then_the_boxes():
    """In the order of the classes and of the ranks."""
    results = to_results(HALVES, [SPOT, SPOT], CONFIG)

    assert [(result["from_name"], result["type"]) for result in results] == [
        *[("seg", "brushlabels")] * 2,
        *[("uncertain", "rectanglelabels")] * 2,
    ]
    assert [result["value"]["brushlabels"] for result in results[:2]] == [["Si"], ["Oxide"]]


def test_label_studio_reads_the_masks():
    """The sdk decodes the left half as material 0."""
    results = to_results(HALVES, [], CONFIG)

    raster = decode_rle(results[0]["value"]["rle"]).reshape(30, 40, 4)
    assert (raster[..., 3] == (HALVES == 0) * 255).all()
    assert (results[0]["original_height"], results[0]["original_width"]) == (30, 40)


def test_label_studio_accepts_the_results():
    """The sdk checks them against the labeling config."""
    interface = LabelInterface(write_label_config(CONFIG.materials))
    results = to_results(HALVES, [SPOT], CONFIG)

    assert interface.validate_prediction({"result": results}, return_errors=True) == []


def test_results_are_json():
    """No numpy number slips through."""
    results = to_results(HALVES, [SPOT], CONFIG, scores=(0.25,) * 4)

    assert json.loads(json.dumps(results, allow_nan=False)) == results


@given(label_maps)
def test_what_is_sent_reads_back_as_the_smoothed_map(label_map):
    """Masks are exclusive and complete: every pixel in exactly one, unlabeled ones in none."""
    regions = parse_results(to_results(label_map, [], CONFIG))

    shown = smooth_for_display(label_map)
    assert (rasterize(regions, CONFIG.materials, label_map.shape) == shown).all()
    assert (rasterize(regions[::-1], CONFIG.materials, label_map.shape) == shown).all()


def test_box_survives_the_way_through_percent():
    """It covers rows 8 to 13 and columns 4 to 13."""
    (*_, box) = to_results(HALVES, [SPOT], CONFIG)

    x, y, width, height = (box["value"][key] / 100 for key in ("x", "y", "width", "height"))
    rows, columns = HALVES.shape
    assert (y * rows, x * columns) == pytest.approx((8, 4))
    assert (height * rows, width * columns) == pytest.approx((6, 10))
    assert box["value"]["rectanglelabels"] == ["Uncertain"]


def test_box_tells_its_rank_and_reason():
    """Beside the score, where the annotator sees it."""
    (*_, first, second) = to_results(HALVES, [SPOT, SPOT], CONFIG)

    assert first["score"] == 0.91
    assert first["meta"]["text"] == ["rank 1: Metal or Oxide, 48/47 %"]
    assert second["meta"]["text"][0].startswith("rank 2")


def test_mask_has_its_mean_confidence():
    """That of its own class; without, it shows none."""
    results = to_results(HALVES, [], CONFIG, scores=(0.75, 0.5, 0.0, 0.0))
    assert [result["score"] for result in results] == [0.75, 0.5]
    assert not any("score" in result for result in to_results(HALVES, [], CONFIG))


@pytest.mark.parametrize("spots", [[], [SPOT]])
def test_notice_is_written_once(spots):
    """At the first box, or at the first mask if there is none."""
    results = to_results(HALVES, spots, CONFIG, notes=["late strokes are missing"])

    told = [result for result in results if "late strokes are missing" in str(result.get("meta"))]
    assert [result["from_name"] for result in told] == ["uncertain" if spots else "seg"]


def test_nothing_known_gives_no_results():
    """An empty answer, never an error."""
    unknown = np.full((5, 5), UNLABELED, dtype=np.uint8)

    assert to_results(unknown, [], CONFIG, notes=["no scribbles yet"]) == []


def test_every_answer_has_fresh_ids():
    """A repeated id can blank the editor."""
    ids = [result["id"] for _ in range(3) for result in to_results(HALVES, [SPOT], CONFIG)]

    assert len(set(ids)) == len(ids) == 9
    assert all(len(id_) == 32 for id_ in ids)


def test_sent_regions_remember_the_answer():
    """Id, control and label of each, and a name all regions of an answer share."""
    results = to_results(HALVES, [SPOT], CONFIG)

    sent = sent_regions(results)

    assert [region.id for region in sent] == [result["id"] for result in results]
    assert [(region.control, region.label) for region in sent] == [
        *(("seg", "Si"), ("seg", "Oxide"), ("uncertain", "Uncertain"))
    ]
    assert len({region.answer for region in sent}) == 1
    assert sent_regions(results)[0].answer != sent[0].answer
    assert sent_regions(results, answer="a7")[0].answer == "a7"


def test_speckle_is_smoothed_away():
    """Three pixels in a hundred are wrong; what is shown is nearly the truth, and much smaller."""
    truth = np.repeat(np.arange(4, dtype=np.uint8), 64)[:, np.newaxis].repeat(256, axis=1)
    noisy = speckled(truth)

    shown = smooth_for_display(noisy)

    assert np.mean(noisy != truth) > 0.02
    assert np.mean(shown != truth) < 0.001
    sizes = [len(json.dumps(to_results(image, [], CONFIG))) for image in (truth, noisy)]
    assert sizes[1] < 1.5 * sizes[0]


@pytest.mark.parametrize("angle_degrees", [0, 17, 45, 63, 90, 135])
@pytest.mark.parametrize("thickness_px", [2, 3, 5])
def test_thin_film_survives(angle_degrees, thickness_px):
    """A gate oxide is two or three pixels thin: it stays whole, whatever its direction."""
    truth = film(angle_degrees, thickness_px)

    shown = smooth_for_display(truth)

    assert ((shown == 1) & (truth == 1)).sum() / ((shown == 1) | (truth == 1)).sum() > 0.9
    assert np.hypot(*np.ptp(np.argwhere(shown == 1), axis=0)) > 97  # from edge to edge


@pytest.mark.parametrize("thickness_px", [3, 4])
def test_thin_film_survives_amid_speckle(thickness_px):
    """Noise may gnaw at it, not cut it."""
    truth = film(17, thickness_px)

    shown = smooth_for_display(speckled(truth))

    assert label(shown == 1, connectivity=2).max() == 1
    assert ((shown == 1) & (truth == 1)).sum() > 0.85 * (truth == 1).sum()


def test_island_goes_to_its_neighbor():
    """Three by four pixels are too few to show, four by four are enough but for their corners."""
    small, large = HALVES.copy(), HALVES.copy()
    small[10:13, 5:9] = 2
    large[10:14, 5:9] = 2

    assert (smooth_for_display(small) == HALVES).all()
    assert np.count_nonzero(smooth_for_display(large) == 2) >= 12


def test_majority_of_the_neighborhood_decides():
    """At the tip of a corner four of nine pixels are not enough; along its sides six are."""
    corner = np.ones((12, 12), dtype=np.uint8)
    corner[:6, :6] = 0

    shown = smooth_for_display(corner)

    assert np.argwhere(shown != corner).tolist() == [[5, 5]]


def test_image_of_islands_only_is_left_as_it_is():
    """There is no neighbor large enough to dissolve them into."""
    tiny = np.array([[0, 0, 1, 1]] * 2, dtype=np.uint8)

    assert (smooth_for_display(tiny) == tiny).all()


@given(label_maps)
def test_smoothing_invents_no_class(label_map):
    """Every pixel has one of the classes that were there."""
    shown = smooth_for_display(label_map)

    assert shown.shape == label_map.shape
    assert set(np.unique(shown)) <= set(np.unique(label_map))


def test_smoothing_leaves_its_argument_alone():
    """Training and measuring use the map that was not smoothed."""
    noisy = speckled(HALVES)
    before = noisy.copy()

    smooth_for_display(noisy)

    assert (noisy == before).all()
