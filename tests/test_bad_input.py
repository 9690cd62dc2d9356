"""Images that cannot be measured as they are: each says so on the command line, none gives a CD.

One batch holds them all, as a folder of a careless user would; a good image among them is measured.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage as ndi

from scripts.measure_cds import main

MATERIALS = ("Si", "Oxide", "Metal", "Fill")
SI, OXIDE, METAL, FILL = range(4)
GRAY = np.array([9_000, 30_000, 48_000, 20_000])
NM_PER_PX = 0.5
BASE = 84  # first row of the silicon
RECIPE = """\
schema: tem-cd-recipe/1
name: gates
version: 1
materials: {si: Si, ox: Oxide, gate: Metal}
frame: {between: [si, ox]}
edges: {prefer: [gray, label]}
structures:
  gate: {materials: [gate], base: {interface_with: ox}, expect: {min: 2, max: 2}}
measurements:
  - {id: cd, kind: width, of: gate, at: {fraction: 0.5}}
  - {id: gox, kind: thickness, film: ox, between: [si, gate], film_gray: auto,
     site: {structure: gate, part: base, inset_px: 4}}
"""


@dataclass(frozen=True)
class Scene:
    """What is drawn, and how it is stored."""

    gates: tuple[tuple[int, int], ...] = ((40, 70), (110, 140))  # first and last column
    film_px: int = 12
    nm_per_px: tuple[float, float] | None = (NM_PER_PX, NM_PER_PX)
    unit: str = "nm"
    sidecar: str = ""
    highest: float = 1.0  # of the range of 16 bits; what is brighter is clipped
    is_labeled: bool = True

    @property
    def labels(self):
        """Class per pixel. (128, 180)."""
        label_map = np.full((128, 180), FILL, np.uint8)
        label_map[BASE - self.film_px :] = OXIDE
        label_map[BASE:] = SI
        for first, last in self.gates:
            label_map[30 : BASE - self.film_px, first:last] = METAL
        return ndi.rotate(label_map, 2, reshape=False, order=0, mode="nearest")

    def write(self, folder, name):
        """Write the microscope's file, the picture and the mask."""
        label_map = self.labels
        gray = ndi.gaussian_filter(GRAY[label_map].astype(float), 1.2)
        gray += np.random.default_rng(list(SCENES).index(name)).normal(0, 700, gray.shape)
        pixels = np.minimum(gray / self.highest, 65_535).astype(np.uint16)
        options = {}
        if self.nm_per_px:
            resolution = tuple(1 / size for size in self.nm_per_px)
            options = {"imagej": True, "resolution": resolution, "metadata": {"unit": self.unit}}
        tifffile.imwrite(folder / "originals" / f"{name}.tif", pixels, **options)
        if self.sidecar:
            (folder / "originals" / f"{name}.txt").write_text(self.sidecar)
        Image.fromarray((pixels // 257).astype(np.uint8)).save(folder / "images" / f"{name}.png")
        mask = label_map if self.is_labeled else np.full_like(label_map, 255)
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


SCENES = {
    "clipped": Scene(highest=0.6),
    "cut": Scene(gates=((0, 30), (110, 140))),
    "empty": Scene(is_labeled=False),
    "few": Scene(gates=((40, 70),)),
    "gamma": Scene(sidecar="Gamma=0.5\n"),
    "good": Scene(),
    "many": Scene(gates=((30, 50), (75, 95), (120, 140))),
    "no_gates": Scene(gates=()),
    "no_scale": Scene(nm_per_px=None),
    "oblong": Scene(nm_per_px=(NM_PER_PX, 1.1 * NM_PER_PX)),
    "thin": Scene(film_px=3),
    "two_scales": Scene(sidecar="PixelSize=0.6\nUnit=nm\n"),
    "wrong_unit": Scene(unit="um"),
}


@dataclass(frozen=True)
class Walk:
    """What the command told, and what it stored."""

    code: int
    told: dict[str, str]  # by image
    database: str

    def rows(self, name, measurement="cd"):
        """Value, status, tier and flags of a measurement's rows of an image."""
        query = """SELECT value, status, edge_method, flags FROM measurement_report
            WHERE image = ? AND measurement = ? AND quantity IN ('', 'mean') ORDER BY instance"""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query, (name, measurement)).fetchall()


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """Measure all scenes by one command."""
    folder = tmp_path_factory.mktemp("careless")
    for part in ("images", "masks", "originals"):
        (folder / part).mkdir()
    (folder / "legend.json").write_text(json.dumps({"materials": MATERIALS}))
    (folder / "gates.yaml").write_text(RECIPE)
    for name, scene in SCENES.items():
        scene.write(folder, name)
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("scripts.measure_cds.tqdm.write", lines.append)
        code = main(["--dataset", str(folder), "--recipe", str(folder / "gates.yaml"),
                     "--database", str(folder / "cds.db"), "--processes", "1"])  # fmt: skip
    return Walk(code, {line.split(":")[0]: line for line in lines}, str(folder / "cds.db"))


def test_each_image_has_its_line_and_the_good_one_is_measured(walk):
    """15 nm on a film of 6 nm, on gray values, and nothing to be said against it."""
    assert walk.code == 1  # some were not measured
    assert list(walk.told) == sorted(SCENES)
    assert walk.told["good"] == "good: ok"
    for value, status, tier, flags in walk.rows("good"):
        assert (value, status, tier) == (pytest.approx(15, abs=0.3), "ok", "gray"), flags
    for value, *_ in walk.rows("good", "gox"):
        assert value == pytest.approx(6, abs=0.3)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_scale", "failed\n  no pixel size is known, and the recipe requires one: give"),
        ("wrong_unit", "failed\n  its pixel of 500 nm (ImageJ description) is outside"),
        ("empty", "failed\n  the mask "),
    ],
)
def test_what_cannot_be_measured_is_refused(walk, name, told):
    """With the reason and what to do; nothing is stored of it."""
    assert len(walk.told[name].splitlines()) == 2
    assert walk.told[name].startswith(f"{name}: {told}")
    assert walk.rows(name) == []


@pytest.mark.parametrize(
    ("name", "flag", "values"),
    [
        ("few", "unexpected_count:gate", 1),
        ("many", "unexpected_count:gate", 3),
        ("cut", "unexpected_count:gate", 1),
        ("oblong", "anisotropic", 2),
        ("two_scales", "scale_conflict", 2),
    ],
)
def test_what_is_not_as_expected_is_to_be_reviewed(walk, name, flag, values):
    """The run says so; a gate that is missing is a row, not a gap."""
    assert walk.told[name].startswith(f"{name}: review")
    assert f"flags: {flag}" in walk.told[name]
    found = walk.rows(name)
    assert sum(value is not None for value, *_ in found) == values
    assert len(found) == max(values, 2)
    assert {status for value, status, *_ in found if value is None} <= {"missing"}


def test_an_image_without_gates_has_rows_that_say_so(walk):
    """As many as were expected."""
    assert walk.told["no_gates"].startswith("no_gates: failed\n  without value: 2 of cd")
    assert [row[:2] for row in walk.rows("no_gates")] == [(None, "missing")] * 2


@pytest.mark.parametrize(("name", "flag"), [("clipped", "clipped"), ("gamma", "unknown_gamma")])
def test_gray_values_that_are_not_linear_place_no_edge(walk, name, flag):
    """The label does, and the run says why."""
    assert f"flags: {flag}" in walk.told[name]
    for value, _, tier, _ in walk.rows(name):
        assert (value, tier) == (pytest.approx(15, abs=0.6), "label")


def test_a_film_too_thin_to_be_resolved_is_flagged(walk):
    """3 px of blur 1.2 without a thick place that tells its gray level."""
    for value, status, tier, flags in walk.rows("thin", "gox"):
        assert (status, tier) == ("flagged", "label")
        assert value == pytest.approx(1.5, abs=0.3)
        assert "thin_film" in flags
