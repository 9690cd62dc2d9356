"""Spots by CDs: what moves a CD comes up, what does not never does, and there is an end."""

import numpy as np
import pytest
from vague_labels import LABELS, NO_SCRIBBLES, around, believed, gates, meets

from backend.learning.spots import rank_spots
from backend.metrology.cd_draws import STEADY_SHARE
from backend.metrology.cd_spots import (
    ASSUMED_U_MAX,
    AUDITS,
    report_cds,
    with_scribbles,
)

FAR = around(20, 20)
FILL = LABELS.index("Fill")


def blot(probabilities, rows, columns):
    """Doubt whether the fill is oxide, half and half."""
    changed = probabilities.copy()
    changed[:, rows, columns] = 0
    changed[[LABELS.index("Oxide"), FILL], rows, columns] = 0.5
    return changed


def wall_of(scene, blur_px=4.0):
    """The left wall of the left gate at half its height, vague."""
    row, column = scene.center_px
    return (*around(row, column - scene.half_px), blur_px)


def report(scene, probabilities, scribbles=NO_SCRIBBLES):
    """Ask where the CDs of the gates stand."""
    return report_cds(probabilities, scribbles, scene.gauge)


@pytest.fixture(scope="module")
def scene():
    """Two gates."""
    return gates()


@pytest.fixture(scope="module")
def vague(scene):
    """What is believed of them where one wall is vague, and a place in the fill is more so."""
    return blot(believed(scene.labels, wall_of(scene)), *FAR)


@pytest.fixture(scope="module")
def vague_report(scene, vague):
    """Where their CDs stand then."""
    return report(scene, vague)


def test_vague_wall_comes_before_a_vaguer_place_elsewhere(scene, vague, vague_report):
    """Doubt alone would send the annotator to the blot."""
    wall = wall_of(scene)[:2]
    assert meets(vague_report.spots[0], *wall)
    assert vague_report.spots[0].reason.startswith("moves width at 0.5 of gate 0 by ")
    assert meets(rank_spots(vague, NO_SCRIBBLES, LABELS)[0], *FAR)


def test_place_that_touches_no_cd_never_comes_up(scene, vague_report):
    """However doubtful it is: only the wall does, or nothing where all walls are clear."""
    assert vague_report.spots
    assert not any(meets(spot, *FAR) for spot in vague_report.spots + vague_report.audits)
    clear = report(scene, blot(believed(scene.labels), *FAR))
    assert clear.spots == ()
    assert clear.is_settled


def test_spots_tell_what_they_move(vague_report):
    """One CD by its name, in nm, and by no more than it is uncertain."""
    *name, by, unit = vague_report.spots[0].reason.removeprefix("moves ").split()
    assert name == ["width", "at", "0.5", "of", "gate", "0", "by"]
    told = next(
        cd for cd in vague_report.cds if (cd.cd.measurement, cd.cd.instance) == ("width", 0)
    )
    assert unit == "nm"
    assert 0.2 < float(by) / (told.u * vague_report.nm_per_px) < 1.3
    assert 0 < vague_report.spots[0].score <= 1


@pytest.mark.parametrize("is_settled", [False, True])
def test_places_at_random_are_on_measured_edges(scene, vague, is_settled):
    """A guide that is sure and wrong shows no doubt: one box of each answer, three in the end."""
    told = report(scene if not is_settled else gates({"width": 5.0}), vague)
    border = scene.labels == LABELS.index("Metal")
    assert told.is_settled == is_settled
    assert len(told.audits) == (AUDITS if is_settled else 1)
    for spot in told.audits:
        assert spot.reason.startswith("check: is the edge of gate ")
        box = border[spot.row : spot.row + spot.height, spot.column : spot.column + spot.width]
        assert 0 < box.mean() < 1


def test_scribbles_settle_what_was_vague(scene, vague, vague_report):
    """The annotator has drawn both sides of the wall: no spot is left, and that is the end."""
    wall = wall_of(scene)[:2]
    scribbles = NO_SCRIBBLES.copy()
    scribbles[wall] = scene.labels[wall]
    drawn = report(scene, vague, scribbles)
    assert not vague_report.is_settled
    assert drawn.is_settled
    assert drawn.spots == ()


def test_sure_guide_is_at_its_end_by_the_tolerances_that_are_assumed(scene):
    """No recipe says how much is enough: half a pixel and a degree can be reached."""
    sure = report(gates({}), believed(scene.labels))
    assert sure.is_assumed
    assert {told.cd.unit for told in sure.cds} >= {"px", "deg"}
    assert all(0 < told.u < ASSUMED_U_MAX[told.cd.unit] for told in sure.cds)
    assert sure.is_settled


def test_end_depends_on_the_tolerance(vague, vague_report):
    """The same beliefs are too little for one recipe and enough for another."""
    assert not vague_report.is_settled
    assert report(gates({"width": 5.0}), vague).is_settled


def test_doubtful_structure_is_not_settled():
    """In a third of the draws the left gate is not there: no tolerance makes up for that."""
    lax = gates({"width": 1000.0})
    probabilities = believed(lax.labels)
    metal = LABELS.index("Metal")
    gate = (lax.labels == metal) & (np.arange(lax.labels.shape[1]) < lax.labels.shape[1] // 2)
    probabilities[:, gate] = 0
    probabilities[metal, gate], probabilities[FILL, gate] = 0.65, 0.35
    doubtful = report(lax, probabilities)
    assert doubtful.stable_share < STEADY_SHARE
    assert not doubtful.is_settled


def test_structure_that_cannot_be_measured_asks_for_strokes_at_it(scene):
    """The left gate seems to stand on nothing: spots lie at its base, where that is in doubt."""
    column = scene.center_px[1]
    metal, oxide = LABELS.index("Metal"), LABELS.index("Oxide")
    gate = (scene.labels == metal) & (np.arange(scene.labels.shape[1]) < scene.labels.shape[1] // 2)
    base = int(np.flatnonzero(gate.any(axis=1)).max())
    under = slice(base - 1, base + 4), slice(round(column) - 24, round(column) + 24)
    probabilities = believed(scene.labels)
    probabilities[(slice(None), *under)] = 0
    probabilities[(oxide, *under)], probabilities[(FILL, *under)] = 0.4, 0.6

    lost = report(scene, probabilities)

    assert any(cd.cd.value is None for cd in lost.cds)
    assert not lost.is_settled
    assert meets(lost.spots[0], *under)


def test_recipe_without_tolerances_gets_assumed_ones(vague, vague_report):
    """Boxes are ranked all the same, and the report says that nobody told them."""
    told = report(gates({}), vague)
    assert {cd.u_max for cd in told.cds} == set(ASSUMED_U_MAX.values())
    assert told.is_assumed
    assert not vague_report.is_assumed


def test_report_repeats(scene, vague, vague_report):
    """Asking again moves no box and changes no figure."""
    assert report(scene, vague) == vague_report


def test_drawn_pixels_are_believed():
    """The annotator's word is taken, whatever the guide thinks; elsewhere nothing changes."""
    probabilities = np.full((2, 1, 3), 0.5, np.float32)
    scribbles = np.array([[0, 255, 1]], np.uint8)
    assert with_scribbles(probabilities, scribbles)[1].tolist() == [[0.0, 0.5, 1.0]]
