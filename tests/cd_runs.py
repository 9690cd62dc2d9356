"""Measured images as a run of a recipe leaves them, for tests of the database and its outputs."""

from dataclasses import replace

from backend.metrology.recipe import Recipe
from backend.metrology.records import ImageRecord, ModelRecord, Run, RunSource
from backend.metrology.results import Measured, MeasuredCD, MeasuredEdge
from backend.microscope.calibration import Calibration

SCALE = Calibration(0.2, 0.2, "manual", 0.05, detail="stage micrometer")
MODEL = ModelRecord("segmentation", "b" * 64, ("Si", "Gate"), version="3")
PITCH_PX = 100


def gate_recipe(**changes):
    """A recipe of gates: a width with limits, a sweep, an angle and an area."""
    data = {
        "schema": "tem-cd-recipe/1", "name": "gate", "version": 1,
        "materials": {"si": "Si", "gate": "Gate"},
        "structures": {"gate": {"materials": ["gate"]}},
        "measurements": [
            {"id": "gate_mcd", "kind": "width", "of": "gate", "at": {"fraction": 0.5},
             "target_nm": 8.0, "lsl_nm": 7.5, "usl_nm": 8.5},
            {"id": "gate_swa", "kind": "sidewall_angle", "of": "gate", "lsl_deg": 86.0},
            {"id": "gate_area", "kind": "area", "of": "gate"},
        ],
    }  # fmt: skip
    return Recipe.model_validate(data | changes)


def gate_image(number=0, **changes):
    """The record of an image of 300 x 400 pixels; each number is an image of its own."""
    image = ImageRecord(
        name=f"gate_{number}.tif", path_rel=f"images/gate_{number}.tif",
        file_sha256=f"{number:064x}", shape=(300, 400), bit_depth=16, instrument="A",
        acquired_at=f"2026-01-{number + 1:02}T08:00:00", lot="L1", metadata={"hv": 200},
    )  # fmt: skip
    return replace(image, **changes)


def gate_run(number=0, calibration=SCALE, model=None, recipe=None, **changes):
    """A run of the recipe on an image, of drawn labels or of a model's."""
    source = RunSource(model=model) if model else RunSource(f"{number + 7:064x}", 12, "ann")
    image = gate_image(number, **changes)
    return Run(image, recipe or gate_recipe(), source, calibration, "1")


def width(instance=0, value=40.0, **changes):
    """The width of a gate, in pixels."""
    column = PITCH_PX * (instance + 1)
    cd = MeasuredCD(
        "gate_mcd", "width", "gate", instance, "px", "ok", value, at_fraction=0.5,
        value_label=value + 0.5, u_value=0.1, n_lines=3, std=0.2, min=value - 1, max=value + 1,
        method="gray", line=((150.0, column - value / 2), (150.0, column + value / 2)),
        center=(150.0, float(column)), reach_px=20.0,
    )  # fmt: skip
    return replace(cd, **changes)


def lost(instance=0, status="missing"):
    """A width that nobody could measure."""
    return replace(
        width(instance), status=status, value=None, value_label=None, u_value=None, std=None,
        min=None, max=None, line=None, flags=("not_found",),
    )  # fmt: skip


def angle(instance=0, value=87.0, side="left"):
    """A wall angle of a gate, in degrees."""
    return replace(
        width(instance), measurement="gate_swa", kind="sidewall_angle", unit="deg", value=value,
        side=side, at_fraction=None, value_label=None, std=None, min=None, max=None,
    )  # fmt: skip


def area(instance=0, value=2000.0):
    """The area of a gate, in square pixels."""
    return replace(
        width(instance), measurement="gate_area", kind="area", unit="px^2", value=value, line=None,
        at_fraction=None, value_label=None, std=None, min=None, max=None,
        geometry=(((100.0, 80.0), (200.0, 80.0), (200.0, 120.0)),),
    )  # fmt: skip


def gates(*widths_px):
    """What is measured on gates of these widths."""
    cds = [one for i, value in enumerate(widths_px) for one in (width(i, value), angle(i), area(i))]
    edge = MeasuredEdge("gate", 0, "left", "gray", ((100.0, 80.0), (200.0, 81.5)))
    return Measured("ok", tuple(cds), (edge,), tilt_deg=1.5, tilt_u_deg=0.1)
