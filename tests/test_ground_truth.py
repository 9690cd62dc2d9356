"""Finished annotations to one class per pixel, whatever the editor did to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from regions import CONFIG, annotation, mask_of, scribble, seg, stroke

from backend.annotation.ground_truth import (
    accepted_masks,
    agreement,
    choose_finished,
    compose_label_map,
)
from backend.annotation.predictions import sent_regions, to_results
from backend.annotation.rle import encode_mask
from backend.annotation.tasks import Region, SentRegion, parse_results
from backend.arrays import UNLABELED
from backend.errors import InvalidTaskError
from backend.learning.spots import Spot

SHAPE = (2, 4)
FOUR = np.repeat(np.arange(4, dtype=np.uint8), 10)[:, np.newaxis].repeat(40, axis=1)  # (40, 40)
SPOTS = [Spot(row=2, column=3, height=6, width=7, score=0.9, reason="Si or Oxide")]


def compose(*regions, sent=(), shape=SHAPE):
    """Compose an annotation of these regions."""
    remembered = {region.id: region for region in sent}
    return compose_label_map(annotation(*regions), CONFIG, remembered, shape)


def answered():
    """Let the guide answer with four masks and a box; give the results and what it remembers."""
    results = to_results(FOUR, SPOTS, CONFIG)
    return results, sent_regions(results)


def relabeled(result, label):
    """Do to a result what Label Studio's Auto-Accept does: the active seg label everywhere."""
    value = {key: entry for key, entry in result["value"].items() if key != "rectanglelabels"}
    value["brushlabels"] = [label]
    return result | {"from_name": "seg", "type": "brushlabels", "value": value}


def test_accepted_masks_become_a_label_map():
    """What the guide sent and the annotator accepted comes back pixel by pixel."""
    results, sent = answered()

    truth = compose(*parse_results(results), sent=sent, shape=FOUR.shape)

    assert (truth.label_map == FOUR).all()
    assert (truth.overlap_px, truth.notices) == (0, ())
    assert truth.pixels_by_origin == {"prediction": 1600}


def test_nothing_is_a_material_on_a_data_bar():
    """The guide has an opinion of letters, and whoever accepts it accepts that too."""
    results, _ = answered()
    told = annotation(*parse_results(results), scribble("Metal", points=[(39, 5)]))

    truth = compose_label_map(told, CONFIG, {}, FOUR.shape, databar_rows=4)

    assert (truth.label_map[:36] == FOUR[:36]).all()
    assert (truth.label_map[36:] == UNLABELED).all()
    assert (truth.overlap_px, truth.pixels_by_origin) == (0, {"prediction": 36 * 40, "scribble": 0})


@pytest.mark.parametrize("rows", [40, 600])
def test_data_bar_as_high_as_the_image_is_refused(rows):
    """It was counted on another image."""
    results, _ = answered()
    told = annotation(*parse_results(results))
    with pytest.raises(InvalidTaskError, match=f"is {rows}, but its image has 40 rows"):
        compose_label_map(told, CONFIG, {}, FOUR.shape, databar_rows=rows)


def test_pixels_without_a_mask_are_unlabeled():
    """They are ignored in training, never guessed."""
    truth = compose(seg("Si", "##.. ##.."))

    assert truth.label_map.tolist() == [[0, 0, UNLABELED, UNLABELED]] * 2


def test_later_mask_wins_and_the_overlap_is_reported():
    """Label Studio lets masks overlap; a label map cannot."""
    truth = compose(seg("Si", "###. ###.", id="a"), seg("Oxide", "..## ..##", id="b"))

    assert truth.label_map.tolist() == [[0, 0, 1, 1]] * 2
    assert truth.overlap_px == 2
    assert truth.notices == ("2 pixels were given to several materials: the last won",)


def test_masks_of_one_material_do_not_contest_each_other():
    """The annotator painted twice, that is all."""
    truth = compose(seg("Si", "###. ###.", id="a"), seg("Si", ".### .###", id="b"))

    assert (truth.overlap_px, truth.notices) == (0, ())


def test_scribble_wins_over_every_mask():
    """A stroke is a deliberate correction, whatever its place in the list."""
    stroke = scribble("Metal", points=[(0, 1)])

    for regions in ([stroke, seg("Si", "#### ####")], [seg("Si", "#### ####"), stroke]):
        truth = compose(*regions)
        assert truth.label_map.tolist() == [[0, 3, 0, 0], [0, 0, 0, 0]]
        assert truth.overlap_px == 1


def test_scribbles_alone_are_no_ground_truth():
    """Ticked by mistake: a few strokes must not pass for a labeled image."""
    truth = compose(scribble("Si", points=[(0, 0), (0, 3)]))

    assert (truth.label_map == UNLABELED).all()
    assert "no mask was accepted or painted" in truth.notices[0]


def test_pixels_are_counted_by_origin():
    """Provenance: accepted, edited, painted by hand, decided by a scribble."""
    truth = compose(
        seg("Si", "#... #...", id="a"),
        seg("Oxide", ".#.. .#..", id="b", origin="prediction-changed"),
        seg("Metal", "..## ..##", id="c", origin="manual"),
        scribble("Si", points=[(0, 3)]),
    )

    assert truth.pixels_by_origin == {
        "prediction": 2,
        "prediction-changed": 2,
        "manual": 3,
        "scribble": 1,
    }


@given(st.lists(st.tuples(st.sampled_from(CONFIG.materials), st.integers(0, 255)), max_size=5))
def test_every_labeled_pixel_has_one_origin(painted):
    """The counts add up to the labeled pixels, and the last mask decides."""
    masks = [
        np.unpackbits(np.array([bits], dtype=np.uint8)).reshape(SHAPE) > 0 for _, bits in painted
    ]
    regions = [
        seg(label, id=str(place), rle=tuple(encode_mask(mask)))
        for place, ((label, _), mask) in enumerate(zip(painted, masks, strict=True))
    ]

    truth = compose(*regions)

    assert sum(truth.pixels_by_origin.values()) == np.count_nonzero(truth.label_map != UNLABELED)
    if painted:
        assert (truth.label_map[masks[-1]] == CONFIG.materials.index(painted[-1][0])).all()


def test_auto_accept_relabeling_is_undone():
    """Four materials and a box came back as Metal: ours are restored, and the annotator is told."""
    results, sent = answered()
    bug = [relabeled(result, "Metal") for result in results]

    truth = compose(*parse_results(bug), sent=sent, shape=FOUR.shape)

    assert (truth.label_map == FOUR).all()
    assert sum("switch it off" in notice for notice in truth.notices) == 3
    assert sum("is a box of ours" in notice for notice in truth.notices) == 1


def test_auto_accept_is_recognized_by_a_mask_and_a_box():
    """Two materials: one is right by accident, the other and the box are wrong together."""
    results, sent = answered()
    mask, box = relabeled(results[0], "Oxide"), relabeled(results[-1], "Oxide")

    truth = compose(*parse_results([mask, results[1], box]), sent=sent, shape=FOUR.shape)

    assert (truth.label_map[:10] == 0).all()
    assert any("switch it off" in notice for notice in truth.notices)


def test_single_relabeled_mask_is_taken_as_deliberate():
    """The annotator knows better; it is noted."""
    results, sent = answered()
    results[0] = relabeled(results[0], "Metal")

    truth = compose(*parse_results(results), sent=sent, shape=FOUR.shape)

    assert (truth.label_map[:10] == 3).all()
    assert truth.notices == (f"mask {results[0]['id']} was relabeled from 'Si' to 'Metal'",)


def test_masks_relabeled_to_different_materials_are_deliberate():
    """The bug gives all the same label."""
    results, sent = answered()
    results[:2] = [relabeled(results[0], "Oxide"), relabeled(results[1], "Si")]

    truth = compose(*parse_results(results), sent=sent, shape=FOUR.shape)

    assert (truth.label_map[:10] == 1).all()
    assert (truth.label_map[10:20] == 0).all()


def test_masks_of_different_answers_are_judged_apart():
    """One relabeled in each of two answers: no sign of the bug."""
    sent = [SentRegion("a", "seg", "Si", "answer 1"), SentRegion("b", "seg", "Oxide", "answer 2")]

    truth = compose(
        seg("Metal", "##..  ##..", id="a"), seg("Metal", "..## ..##", id="b"), sent=sent
    )

    assert (truth.label_map == 3).all()
    assert all("was relabeled" in notice for notice in truth.notices)


def test_accepting_with_a_scribble_label_active_adds_nothing():
    """Each accepted mask and box gets a second result with the active label: they are dropped."""
    results, sent = answered()
    extras = [relabeled(result, "Metal") | {"from_name": "scribble"} for result in results]

    truth = compose(*parse_results([*extras, *results]), sent=sent, shape=FOUR.shape)

    assert (truth.label_map == FOUR).all()
    assert truth.overlap_px == 0
    assert len(truth.notices) == len(results)
    assert all("press Esc before accepting" in notice for notice in truth.notices)


def test_accepting_with_a_label_active_is_recognized_without_memory():
    """Even if the database was lost: the extras share their ids with the masks."""
    results, _ = answered()
    extras = [relabeled(result, "Metal") | {"from_name": "scribble"} for result in results]

    truth = compose(*parse_results([*results, *extras]), shape=FOUR.shape)

    assert (truth.label_map == FOUR).all()


def test_accepting_with_a_seg_label_active_adds_nothing():
    """The same mask twice, with our label and with the active one: ours stays."""
    results, sent = answered()
    extras = [relabeled(result, "Metal") for result in results]

    truth = compose(*parse_results([*extras, *results]), sent=sent, shape=FOUR.shape)

    assert (truth.label_map == FOUR).all()


def test_one_mask_with_two_labels_keeps_ours():
    """Whichever comes first; a single id is no sign of Auto-Accept."""
    sent = [SentRegion("m1", "seg", "Si", "answer")]

    for regions in ([seg("Metal"), seg("Si")], [seg("Si"), seg("Metal")]):
        truth = compose(*regions, sent=sent)
        assert truth.label_map.tolist() == [[0, 0, UNLABELED, UNLABELED]] * 2
        assert truth.notices == ("mask m1 has a second label 'Metal': it is ignored",)


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (seg(rle=None), "nothing is painted in it"),
        (Region("m1", "seg", "rectanglelabels", "Si", "manual", rle=(0,)), "nothing is painted"),
        (seg(id="box"), "it is a box of ours"),
        (seg("Gold"), "'Gold' is no material"),
        (seg(None), "None is no material"),
    ],
)
def test_mask_that_is_none_is_ignored(region, reason):
    """Results of the control `seg` on a box, or without a known material."""
    sent = {"box": SentRegion("box", "uncertain", "Uncertain")}

    kept, notices = accepted_masks([region], CONFIG, sent)

    assert kept == ()
    assert reason in notices[0]


def test_boxes_and_prompts_are_not_mentioned():
    """They are no masks, and nobody expects them to be."""
    prompt = Region("p", "ask", "rectanglelabels", "Update guide", "manual")

    assert compose(seg(), prompt).notices == ()


def test_edited_mask_is_the_mask_with_its_strokes():
    """The annotator erased a pixel of an accepted mask."""
    edited = seg("Si", "##.. ##..", touches=(stroke([(0, 0)], erases=True),))

    assert (compose(edited).label_map == np.where(mask_of(".#.. ##.."), 0, UNLABELED)).all()


def test_mask_of_another_image_size_is_refused():
    """A wrong mask shown as right is the worst outcome."""
    with pytest.raises(InvalidTaskError, match="image of"):
        compose(seg(), shape=(4, 2))


def test_only_finished_annotation_is_chosen():
    """There is nothing to choose."""
    assert choose_finished([annotation(id=3)]) == (annotation(id=3), "the only finished one")


def test_newest_finished_annotation_is_chosen():
    """The annotator's last word; the time zone counts, not the text."""
    early = annotation(id=1, updated_at="2026-11-22T09:00:00+02:00")
    late = annotation(id=2, updated_at="2026-11-22T08:30:00Z")

    assert choose_finished([late, early]) == (late, "the newest of 2")


def test_flagged_annotation_is_chosen_before_a_newer_one():
    """The flag is a decision of its own."""
    flagged = annotation(id=1, ground_truth=True, updated_at="2026-11-20T08:00:00Z")
    later = annotation(id=2, ground_truth=True, updated_at="2026-11-21T08:00:00Z")
    ticked = annotation(id=3)

    assert choose_finished([ticked, flagged]) == (
        flagged,
        "the one of 2 that is flagged as ground truth",
    )
    assert choose_finished([flagged, later, ticked]) == (
        later,
        "the newest of 2 that are flagged as ground truth",
    )


def test_agreement_needs_two_annotations_with_labels():
    """One alone agrees with nobody."""
    empty = np.full((2, 2), UNLABELED, np.uint8)

    assert agreement([empty]) is None
    assert agreement([empty, empty]) is None


def test_agreement_is_the_share_of_equal_pixels():
    """What only one of them labels is no agreement, what none labels does not count."""
    first = np.array([[0, 0, 1, 255]], np.uint8)
    second = np.array([[0, 1, 255, 255]], np.uint8)

    assert agreement([first, first]) == 1
    assert agreement([first, second]) == pytest.approx(1 / 3)
    assert agreement([first, first, second]) == pytest.approx(1 / 3)
