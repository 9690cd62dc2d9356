"""Strokes to pixels, and which strokes are weak labels at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.converter.brush import encode_rle
from regions import CONFIG, mask_of, request_body, scribble, seg, stroke

from backend.annotation.rle import encode_mask
from backend.annotation.scribbles import (
    MAX_PAINTED_PX,
    rasterize,
    region_mask,
    stroke_mask,
    weak_labels,
)
from backend.annotation.tasks import Region, SentRegion, parse_results, parse_task
from backend.arrays import UNLABELED
from backend.errors import InvalidTaskError

SHAPE = (23, 31)
coordinates = st.floats(-40, 60) | st.integers(-40, 60) | st.sampled_from([-1e7, 1e7])
lines = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5)


def distance_px(points, shape=SHAPE):
    """Measure from each pixel's center to a polyline, the slow and obvious way."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    nearest = np.full(shape, np.inf)
    points = np.array(points, dtype=np.float64)
    for start, end in zip(points, [*points[1:], points[-1]], strict=True):
        along = end - start
        place = (rows - start[0]) * along[0] + (columns - start[1]) * along[1]
        share = np.clip(place / max(along @ along, 1e-300), 0, 1)
        to_line = np.hypot(
            rows - start[0] - share * along[0], columns - start[1] - share * along[1]
        )
        nearest = np.minimum(nearest, to_line)
    return nearest


@given(lines, st.sampled_from([1.5, 2.0, 5.0, 12.3]))
def test_stroke_covers_the_pixels_within_half_its_width(points, width_px):
    """Round ends, round corners, nothing more; even if it runs far outside the image."""
    gap_px = distance_px(points) - width_px / 2

    mask = stroke_mask(stroke(points, width_px=width_px), SHAPE)

    undecided = np.abs(gap_px) < 1e-6
    assert (mask == (gap_px <= 0))[~undecided].all()


@given(st.floats(-0.5, 22.5), st.floats(-0.5, 30.5), st.sampled_from([0.0, 0.3, 1.0]))
def test_click_inside_the_image_marks_its_pixel(row, column, width_px):
    """Even the thinnest brush, even between four centers or on the far edge."""
    mask = stroke_mask(stroke([(row, column)], width_px=width_px), SHAPE)

    assert mask.any()
    assert (distance_px([(row, column)])[mask] <= np.sqrt(0.5) + 1e-9).all()


@given(lines)
def test_thin_line_has_no_gap(points):
    """Along each segment that stays inside, every row and every column is marked."""
    points = np.clip(points, 0, 22)

    mask = stroke_mask(stroke(points, width_px=0), SHAPE)

    rows, columns = np.nonzero(mask)
    assert set(range(rows.min(), rows.max() + 1)) == set(rows)
    assert set(range(columns.min(), columns.max() + 1)) == set(columns)


def test_horizontal_line_is_as_wide_as_the_brush():
    """Width 3 covers three rows; the round ends reach one pixel further."""
    mask = stroke_mask(stroke([(2, 2), (2, 4)], width_px=3), (5, 7))

    # the corners of the ends are 1.41 px away, within 1.5
    assert (mask == mask_of("....... .#####. .#####. .#####. .......")).all()


def test_repeated_last_point_changes_nothing():
    """Label Studio repeats it when the mouse is released."""
    once = stroke_mask(stroke([(3, 3), (9, 20)], width_px=4), SHAPE)
    twice = stroke_mask(stroke([(3, 3), (9, 20), (9, 20)], width_px=4), SHAPE)

    assert (once == twice).all()


def test_stroke_without_points_paints_nothing():
    """Neither does it fail."""
    assert not stroke_mask(stroke([]), SHAPE).any()
    assert not region_mask(scribble(points=()), SHAPE).any()


@given(lines, st.sampled_from([0.0, 3.0]), st.booleans())
def test_painting_in_a_window_equals_painting_on_the_whole(points, width_px, erases):
    """A region's strokes are painted in their bounding boxes only."""
    first = stroke([(11, -99), (11, 99)], width_px=9)
    touches = (first, stroke(points, width_px=width_px, erases=erases))
    under, over = (stroke_mask(touch, SHAPE) for touch in touches)

    mask = region_mask(scribble(touches=touches), SHAPE)

    assert (mask == (under & ~over if erases else under | over)).all()


def test_later_stroke_wins():
    """Where two strokes overlap, the annotator's second thought counts."""
    regions = [
        scribble("Si", points=[(0, 0), (0, 2)]),
        scribble("Oxide", points=[(0, 2), (0, 3)]),
    ]

    label_map = rasterize(regions, CONFIG.materials, (1, 5))

    assert label_map.tolist() == [[0, 0, 1, 1, UNLABELED]]


def test_eraser_takes_from_its_own_region_only():
    """The other material's stroke below it stays."""
    below = scribble("Si", points=[(0, 0), (0, 4)])
    erased = scribble(
        "Oxide", touches=(stroke([(0, 0), (0, 4)]), stroke([(0, 1), (0, 3)], erases=True))
    )

    assert rasterize([below, erased], CONFIG.materials, (1, 5)).tolist() == [[1, 0, 0, 0, 1]]


def test_stroke_after_the_eraser_paints_again():
    """Touches count in the order they were made."""
    line = [(0, 0), (0, 4)]
    touches = (stroke(line), stroke(line, erases=True), stroke([(0, 2)]))

    mask = region_mask(scribble(touches=touches), (1, 5))

    assert (mask == mask_of("..#..")).all()


def test_strokes_are_applied_to_the_mask_below_them():
    """A region that was submitted and then edited has both."""
    edited = seg(pixels="##...", touches=(stroke([(0, 0)], erases=True), stroke([(0, 4)])))

    assert (region_mask(edited, (1, 5)) == mask_of(".#..#")).all()


def test_half_transparent_rim_is_not_painted():
    """The editor's strokes have soft rims: alpha 106 is outside, 229 inside."""
    raster = np.repeat(np.array([229, 106, 127, 128], dtype=np.uint8), 4)
    soft = seg(rle=tuple(encode_rle(raster)), shape=(1, 4))

    assert (region_mask(soft, (1, 4)) == mask_of("#..#")).all()


def test_mask_of_another_image_size_is_refused():
    """A stretched mask would be wrong and look right."""
    with pytest.raises(InvalidTaskError, match=r"region m1 was made on an image of \(2, 4\)"):
        region_mask(seg(), (4, 2))


def test_malformed_mask_is_refused_by_name():
    """The annotator can find and delete the region."""
    with pytest.raises(InvalidTaskError, match="region m1: a brush RLE"):
        region_mask(seg(rle=(0, 1, 2)), (2, 4))


def test_unknown_material_is_refused_by_name():
    """Whoever rasterizes has chosen the regions before."""
    with pytest.raises(InvalidTaskError, match="region s1: 'Gold' is no material"):
        rasterize([scribble("Gold")], CONFIG.materials, (1, 5))


def test_real_draft_lands_where_it_was_drawn():
    """Two strokes, 1.861 % of 512 px wide, cover what lies that near to their points."""
    body = request_body("interactive_request_with_draft")["tasks"][0]
    (draft,) = parse_task(body, "image").drafts

    label_map = rasterize(draft.regions, CONFIG.materials, (512, 512))

    for index, drawn in enumerate(body["drafts"][0]["result"]):
        percent = np.array(drawn["value"]["touches"][0]["relativePoints"]).reshape(-1, 2)
        near = distance_px(percent[:, ::-1] * 5.12 - 0.5, (512, 512)) <= 1.861 * 5.12 / 2
        assert ((label_map == index) == near).all()


def test_stroke_agrees_with_the_mask_label_studio_made_of_one():
    """A submitted scribble has only its RLE: strokes along its middle line cover the same."""
    body = request_body("batch_request_with_ground_truth")["tasks"][0]
    (region,) = parse_task(body, "image").annotations[0].regions

    mask = region_mask(region, (512, 512))

    rows, columns = np.nonzero(mask)
    middle, width_px = (rows.min() + rows.max()) / 2, rows.max() - rows.min() + 1
    ends = [(middle, columns.min()), (middle, columns.max())]
    painted = stroke_mask(stroke(ends, width_px=width_px), (512, 512))
    assert (mask & painted).sum() / (mask | painted).sum() > 0.9


def test_scribbles_of_a_real_draft_are_weak_labels():
    """Painted by hand, with known materials."""
    body = request_body("interactive_request_with_draft")["tasks"][0]
    (draft,) = parse_task(body, "image").drafts

    assert weak_labels(draft.regions, CONFIG, {}) == (draft.regions, ())


def test_submitted_scribble_is_a_weak_label():
    """It has an RLE instead of touches."""
    submitted = scribble(touches=(), rle=(0,))

    assert weak_labels([submitted], CONFIG, {}) == ((submitted,), ())


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (scribble(origin="prediction"), "not painted by hand"),
        (scribble(origin="prediction-changed"), "not painted by hand"),
        (scribble(origin=""), "not painted by hand"),
        (scribble(kind="rectanglelabels"), "nothing was painted"),
        (scribble(touches=()), "nothing was painted"),
        (scribble("Gold"), "'Gold' is no material"),
        (scribble(None), "None is no material"),
        (scribble(id="ours"), "repeats a region of the guide"),
    ],
)
def test_scribble_that_was_not_drawn_by_hand_is_ignored(region, reason):
    """Accepting suggestions with a label active attaches full masks as scribbles."""
    sent = {"ours": SentRegion("ours", "seg", "Si")}

    kept, ignored = weak_labels([region], CONFIG, sent)

    assert kept == ()
    assert len(ignored) == 1
    assert reason in ignored[0]
    assert region.id in ignored[0]


def test_scribble_that_shares_its_id_with_a_mask_is_ignored():
    """The extra result of an accepted mask, even if nobody remembers sending it."""
    kept, ignored = weak_labels([seg(id="x"), scribble(id="x")], CONFIG, {})

    assert kept == ()
    assert "x is ignored" in ignored[0]


def test_masks_prompts_and_boxes_are_no_weak_labels():
    """And nobody needs to be told."""
    others = [seg(origin="manual"), Region("p", "ask", "rectanglelabels", "Update guide", "manual")]

    assert weak_labels(others, CONFIG, {}) == ((), ())


def test_weak_labels_keep_their_order():
    """The later one will win."""
    regions = [scribble(id="b"), scribble(id="a")]

    assert weak_labels(regions, CONFIG, {})[0] == tuple(regions)


def test_percent_and_raster_agree_on_the_whole_image():
    """A stroke from edge to edge at half height, a quarter of the width wide, covers two rows."""
    body = {
        "id": "r",
        "from_name": "scribble",
        "type": "brushlabels",
        "origin": "manual",
        "original_width": 8,
        "original_height": 4,
        "value": {
            "brushlabels": ["Si"],
            "touches": [
                {"type": "add", "relativePoints": [0, 50, 100, 50], "relativeStrokeWidth": 25}
            ],
        },
    }

    mask = region_mask(*parse_results([body]), (4, 8))

    assert (mask == mask_of("........ ######## ######## ........")).all()


def test_large_image_of_many_strokes_decodes_to_itself():
    """What is painted, encoded and read back stays."""
    painted = region_mask(scribble(touches=(stroke([(9, 9), (90, 150)], width_px=7),)), (99, 160))
    submitted = scribble(touches=(), rle=tuple(encode_mask(painted)), shape=(99, 160))

    assert (region_mask(submitted, (99, 160)) == painted).all()


def wide_stroke(side_px):
    """A stroke over a whole image, by its shape and width."""
    return scribble(
        touches=(stroke([(0, 0), (side_px, side_px)], width_px=side_px),), shape=(side_px, side_px)
    )


def test_more_painting_than_seconds_of_work_is_refused():
    """Each stroke alone is allowed; so many over so large an image would take minutes."""
    side_px = 4000
    count = MAX_PAINTED_PX // side_px**2
    with pytest.raises(InvalidTaskError, match=r"paint 4\.0 billion pixels, at most 4 are read"):
        weak_labels([wide_stroke(side_px)] * (count + 1), CONFIG, {})
    masks = [scribble(touches=(), rle=(0,), shape=(side_px, side_px))] * (count + 1)
    with pytest.raises(InvalidTaskError, match="billion pixels"):
        weak_labels(masks, CONFIG, {})
    kept, ignored = weak_labels([wide_stroke(side_px)] * count, CONFIG, {})
    assert (len(kept), ignored) == (count, ())


def test_mask_of_an_impossible_size_costs_its_own_region_only():
    """It is never painted, so it counts for nothing."""
    giant = scribble(touches=(), rle=(0,), shape=(65_000, 65_000))
    kept, ignored = weak_labels([giant, scribble(id="s2", shape=(64, 64))], CONFIG, {})
    assert [region.id for region in kept] == ["s2"]
    assert "px in all" in ignored[0]
