"""What `--check` tells of a recipe."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from backend.metrology.recipe_file import load_recipe
from backend.metrology.recipe_plan import describe_plan

RECIPES = Path(__file__).parents[1] / "backend" / "metrology" / "recipes"


@dataclass
class Plans:
    """The lines of a shipped recipe's plan, by what they start with."""

    name: str
    nm_per_px: float | None = 0.2

    def line(self, start):
        """The one line that starts so."""
        lines = describe_plan(load_recipe(RECIPES / f"{self.name}.yaml"), self.nm_per_px)
        (found,) = [line for line in lines if line.startswith(start)]
        return found


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ("dram_gate, version 3", "a pixel of 0.2 nm"),
        ("frame", "along si / ox, 64 px (12.8 nm) of it at least, tilt up to 15°"),
        ("edges", "gray, then prob, then label; searched within 7 px (1.4 nm)"),
        ("structure gate", "pieces of gate, 2 to 9 expected, 3750 px² or larger"),
        ("structure gate", "base where it touches ox"),
        ("measurement gate_mcd", "width, at 0.5 of the height, over 0.04 of it, target 22 nm"),
        ("measurement gate_mcd", "1 row for each gate"),
        ("measurement gate_bcd", "10 px (2 nm) from the base"),
        ("measurement gate_bow", "at 41 levels from 0.1 to 0.9 of the height, the max of them"),
        ("measurement gate_swa", "left and right, lsl 86°, usl 90.5°; 2 rows for each gate"),
        ("measurement gox_t", "of ox between si and gate at the base, 10 px (2 nm) from its ends"),
        ("measurement gate_pitch", "1 row for each gap of neighbours"),
        ("measurement gate_ar:", "ratio gate_h / gate_mcd"),
    ],
)
def test_gate(start, told):
    """Lengths are told in pixels of the image, and in nm."""
    assert told in Plans("dram_gate").line(start)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ("structure active", "what lies above the base of trench, base where it is cut"),
        ("measurement act_profile", "17 rows for each active"),
        ("measurement sti_recess", "recess, of fill against active"),
    ],
)
def test_active(start, told):
    """Cuts, sweeps and levels."""
    assert told in Plans("dram_active").line(start)


def test_a_frame_along_structures():
    """It is not the image's."""
    recipe = load_recipe(RECIPES / "dram_gate.yaml")
    frame = recipe.frame.model_copy(
        update={"align": "structure_axis", "axis_of": "gate", "between": None}
    )
    told = list(describe_plan(recipe.model_copy(update={"frame": frame}), 0.2))
    assert told[1].startswith("frame: its height along the mid-lines of gate, 64 px (12.8 nm)")


def test_without_a_pixel_size_nothing_is_measured():
    """Where the recipe requires one."""
    lines = list(describe_plan(load_recipe(RECIPES / "dram_gate.yaml"), None))
    assert lines[1:] == ["nothing: the recipe requires a calibration"]


def test_pixels_only_if_the_recipe_says_so(tmp_path):
    """Lengths in nm then say what they lack."""
    text = (
        (RECIPES / "dram_gate.yaml").read_text("utf-8").replace("require: true", "require: false")
    )
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    told = "\n".join(describe_plan(load_recipe(tmp_path / "r.yaml"), None))
    assert "offset_nm needs a calibrated image: give it as offset_px" in told
    assert "searched within 7 px, moved by 4 px at most" in told
