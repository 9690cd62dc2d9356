"""Boxes to check: where nothing is in doubt, and first where the image contradicts."""

from itertools import product

import numpy as np
import pytest
from vague_labels import NO_SCRIBBLES, around, gates, meets

from backend.metrology.cd_audits import audit_spots, contradictions
from backend.metrology.cd_replay import gate_gauge
from backend.metrology.results import MeasuredEdge
from backend.microscope.synthetic import make_image

MOVED_PX = 3


@pytest.fixture(scope="module")
def scene():
    """Two gates."""
    return gates()


def test_wall_that_is_wrong_and_sure_is_looked_at_before_long(scene):
    """Sixteen answers with a stroke more each: all four walls have come up, and the same again."""
    measured = scene.gauge.measure(scene.labels)
    row, left = scene.center_px
    right = next(cd.center[1] for cd in measured.cds if cd.instance == 1)
    walls = [around(row, column + side * scene.half_px) for column in (left, right)
             for side in (-1, 1)]  # fmt: skip
    scribbles, found = NO_SCRIBBLES.copy(), []
    for column in range(16):
        scribbles[0, column] = 0
        found += audit_spots(measured, None, scribbles, (), 1)
    assert all(any(meets(spot, *wall) for spot in found) for wall in walls)
    assert audit_spots(measured, None, scribbles, (), 1) == (found[-1],)
    assert audit_spots(measured, None, scribbles, (found[-1],), 1) != (found[-1],)


def wrong_walls(equipment, seed):
    """Move one wall of one gate after the other; yield the gauge, what is measured, and where."""
    image = make_image("gate", equipment, seed, (256, 256)).without_databar()
    gauge, metal = gate_gauge(image), image.materials.index("Metal")
    for edge in gauge.measure(image.label_map).edges:
        if edge.structure != "gate" or edge.side not in ("left", "right"):
            continue
        shift = -MOVED_PX if edge.side == "left" else MOVED_PX
        row, column = np.array(sorted(edge.points)).T
        rows = np.arange(round(row[0]), round(row[-1]) + 1)
        wrong = np.zeros(image.label_map.shape, bool)
        for r, wall in zip(rows, np.interp(rows, row, column).round().astype(int), strict=True):
            start, stop = sorted((wall, wall + shift))
            wrong[r, max(start, 0) : stop + 1] = True
        label_map = np.where(wrong, np.uint8(metal), image.label_map)
        yield gauge, gauge.measure(label_map), wrong


def test_image_leads_to_walls_that_are_wrong_and_sure():
    """One box finds most of them, three by even chances half."""
    found, even = [], []
    for equipment, seed in product("ABC", (40, 41, 42)):
        for gauge, measured, wrong in wrong_walls(equipment, seed):
            nothing = np.full(wrong.shape, 255, np.uint8)
            (box,) = audit_spots(measured, gauge.gray, nothing, (), 1)
            found.append(wrong[box.window].any())
            boxes = audit_spots(measured, None, nothing, (), 3)
            even.append(any(wrong[box.window].any() for box in boxes))
    assert len(found) > 30
    assert np.mean(found) > 0.8
    assert np.mean(even) < 0.65


def edge_at(column):
    """A straight wall."""
    points = tuple((float(row), float(column)) for row in range(10, 50))
    return MeasuredEdge("gate", 0, "left", "label", points)


def test_contradiction_is_0_on_an_edge_and_1_beside_it():
    """Where nothing changes at all, nothing contradicts."""
    gray = np.zeros((64, 64), np.float32)
    gray[:, 30:] = 1
    on, beside, far = contradictions(gray, [edge_at(29.5), edge_at(25.5), edge_at(50)]).reshape(
        3, -1
    )
    assert on.max() < 0.05
    assert beside.min() > 0.7
    assert far.max() == 0


def test_edge_of_one_point_is_no_mistake():
    """It has no direction."""
    edge = MeasuredEdge("gate", 0, "top", "label", ((5.0, 5.0),))
    assert contradictions(np.eye(16, dtype=np.float32), [edge]).tolist() == [0]


def test_reason_tells_what_the_image_shows():
    """The annotator knows why the box is there."""
    _, measured, wrong = next(wrong_walls("A", 40))
    gauge = gate_gauge(make_image("gate", "A", 40, (256, 256)))
    boxes = audit_spots(measured, gauge.gray, np.full(wrong.shape, 255, np.uint8), (), 3)
    told = [box.reason for box in boxes if wrong[box.window].any()]
    assert told
    assert all("gray values change faster beside it" in reason for reason in told)


def test_nothing_measured_nothing_to_check(scene):
    """An image without structures."""
    measured = scene.gauge.measure(np.zeros_like(scene.labels))
    assert audit_spots(measured, None, NO_SCRIBBLES, (), 3) == ()
