"""Measured draws: each CD with its spread, paired by position, and what the recipe tolerates."""

from dataclasses import replace

import numpy as np
import pytest
from cd_runs import gate_recipe, lost, width
from vague_labels import LABELS, around, believed, gates

from backend.metrology.cd_draws import (
    Gauge,
    ReportStoppedError,
    UncertainCD,
    count_structures,
    measure_draws,
    paired_values,
    told_u,
)
from backend.metrology.label_draws import draw_label_maps
from backend.metrology.measure import measure_image
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration

SCALE = Calibration(0.2, 0.2, "manual")


def values_of(rows, others):
    """Pair and return a list, None where there is no value."""
    return [None if np.isnan(v) else v for v in paired_values(rows, others)]


def test_rows_are_paired_by_position_and_not_by_number():
    """The first of three gates vanished: the others keep their partners."""
    rows = [width(0, 40.0), width(1, 41.0), width(2, 42.0)]
    others = [replace(width(1, 41.5), instance=0), replace(width(2, 42.5), instance=1)]
    assert values_of(rows, others) == [None, 41.5, 42.5]


def test_row_has_no_partner_beyond_half_its_width():
    """Two gates that merged have their middle between them: it is neither's."""
    merged = width(0, 140.0, center=(150.0, 150.0))
    assert values_of([width(0), width(1)], [merged]) == [None, None]


def test_other_measurements_are_no_partners():
    """Of another side, or of another recipe's row."""
    assert values_of([width()], [width(side="left"), width(measurement="gate_bcd")]) == [None]


@pytest.mark.parametrize(
    ("changes", "u_max"),
    [
        ({"u": 0.15}, 0.75),  # of the annotation, before all others
        ({}, 0.25),  # (8.5 - 7.5) / 20 = 0.05 nm
        ({"usl_nm": None}, 0.4),  # 1 % of 8 nm
        ({"usl_nm": None, "target_nm": None}, None),
    ],
)
def test_tolerance_is_the_annotations_else_the_limits_else_the_targets(changes, u_max):
    """In pixels of 0.2 nm."""
    recipe = gate_recipe().model_dump(by_alias=True)
    u_nm = changes.pop("u", None)
    recipe["measurements"][0].update(changes)
    recipe["annotation"] = {"u_max_nm": {"gate_mcd": u_nm}} if u_nm else {}
    found = Gauge(("Si", "Gate"), gate_recipe(**recipe), SCALE).tolerance(width())
    assert found == (pytest.approx(u_max) if u_max else None)


def test_nanometres_tolerate_nothing_without_a_scale():
    """How many pixels they are is not known."""
    assert Gauge(("Si", "Gate"), gate_recipe()).tolerance(width()) is None


def test_pixels_are_tolerated_where_nanometres_say_nothing():
    """Without a scale, or without a figure in nm; else those count."""
    recipe = gate_recipe(annotation={"u_max_px": {"gate_mcd": 0.7}})
    both = {"u_max_px": {"gate_mcd": 0.7}, "u_max_nm": {"gate_mcd": 0.2}}
    assert Gauge(("Si", "Gate"), recipe).tolerance(width()) == 0.7
    told = Gauge(("Si", "Gate"), gate_recipe(annotation=both), SCALE).tolerance(width())
    assert told == pytest.approx(1.0)


def test_focused_gauge_sees_the_same():
    """Only rows far from all that is measured are left out: the same values at the same places."""
    scene = gates()
    padded = np.pad(scene.labels, ((60, 60), (0, 0)), mode="edge")
    measured = scene.gauge.measure(padded)
    focused = scene.gauge.focused(padded, measured)
    assert focused.recipe.roi_fraction[1] > 0
    seen = focused.measure(padded)
    assert seen.cds == measured.cds
    assert seen.tilt_deg == measured.tilt_deg


def test_values_are_those_of_a_full_measuring():
    """Only how well they are known is left out, which takes time."""
    scene = gates()
    subject = Subject(scene.labels, LABELS, scene.gauge.calibration)
    full = measure_image(subject, scene.gauge.recipe).cds
    assert len(full) > 4
    assert [cd.value for cd in scene.gauge.measure(scene.labels).cds] == [cd.value for cd in full]


def test_gauge_stops_when_it_may_not_go_on():
    """Somebody else waits: the report is given up before the next measuring."""
    scene = gates()
    answers = iter([True, True, False])
    gauge = Gauge(LABELS, scene.gauge.recipe, scene.gauge.calibration, lambda: next(answers))
    gauge.measure(scene.labels)
    gauge.measure(scene.labels)
    with pytest.raises(ReportStoppedError):
        gauge.measure(scene.labels)


@pytest.mark.parametrize(
    ("u", "u_max", "seen", "is_within"),
    [
        (0.5, 0.5, 1.0, True),
        (0.51, 0.5, 1.0, False),
        (0.5, 0.5, 0.9, False),  # a tenth of the draws do not have it
        (9.0, None, 1.0, True),  # nobody asked
        (None, 0.5, 0.0, False),
    ],
)
def test_cd_is_within_where_it_is_steady_and_certain(u, u_max, seen, is_within):
    """Neither alone is enough."""
    assert UncertainCD(width(), u, u_max, seen).is_within == is_within


def test_cd_that_is_not_measured_is_never_within():
    """However little is asked."""
    assert not UncertainCD(lost(status="failed"), 0.0, None, 1.0).is_within


def test_vague_edge_makes_its_own_cd_uncertain():
    """The width of the left gate, not that of the right."""
    scene = gates()
    row, column = scene.center_px
    wall = (*around(row, column - scene.half_px), 4.0)
    probabilities = believed(scene.labels, wall)

    measured = measure_draws(scene.gauge, scene.labels, draw_label_maps(probabilities, 24))

    u = {(cd.measurement, cd.instance): u for cd, u in zip(measured.rows, measured.u, strict=True)}
    assert u["width", 0] > 3 * u["width", 1]
    assert measured.stable_share == 1


def test_sure_guide_is_not_told_to_be_surer_than_its_edges_may_be():
    """Draws that do not scatter leave 0.3 px an edge: of a width .2 to .42 px, within 0.5."""
    scene = gates()
    measured = measure_draws(scene.gauge, scene.labels, scene.labels[None].repeat(3, axis=0))
    told = {cd.measurement: measured.state(i, 0.5) for i, cd in enumerate(measured.rows)}
    assert all(0.1 < told[name].u < 0.43 for name in ("width", "height", "film"))
    assert all(told[name].is_within for name in ("width", "height", "film"))
    assert not replace(told["width"], u_max=0.15).is_within


def test_scatter_of_draws_and_error_of_edges_add_in_quadrature():
    """1.4 x 0.5 px of draws and 0.24 px of edges."""
    assert told_u(0.5, replace(width(), u_value=0.24)) == pytest.approx(0.74)
    assert told_u(0.5, replace(width(), u_value=None)) == pytest.approx(0.7)
    assert np.isnan(told_u(np.nan, width()))


def test_reported_value_is_that_of_the_likeliest_labels():
    """The draws only tell how far it is uncertain."""
    scene = gates()
    measured = measure_draws(scene.gauge, scene.labels, scene.labels[None].repeat(3, axis=0))
    assert measured.reference == scene.gauge.measure(scene.labels)
    assert measured.u == pytest.approx(0, abs=1e-9)
    assert (measured.values == [cd.value for cd in measured.rows]).all()


def test_draws_without_a_structure_are_told():
    """One of four draws lost the left gate."""
    scene = gates()
    bare = scene.labels.copy()
    left = bare[:, : bare.shape[1] // 2]
    left[left == LABELS.index("Metal")] = 3
    draws = np.stack([scene.labels, scene.labels, scene.labels, bare])

    measured = measure_draws(scene.gauge, scene.labels, draws)

    assert count_structures(scene.gauge.measure(bare)) == {"gate": 1}
    assert measured.stable_share == 0.75
    seen = {s.cd.instance: s.seen_share for s in (measured.state(i, 1.0) for i in range(2))}
    assert seen == {0: 0.75, 1: 1.0}
