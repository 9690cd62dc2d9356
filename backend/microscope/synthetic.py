"""Synthetic TEM images of devices, with the true label of every pixel and true CDs.

`make_image` draws a device (`devices`), measures it (`true_cds`), and then photographs it:
coverage of each pixel (`coverage`), lamella, contrast, optics and detector (`equipment`).
The same arguments give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from backend.arrays import UNLABELED, LabelMap
from backend.microscope.contrast import Contrast, draw_contrast, grade_border, signal
from backend.microscope.coverage import coverage_fractions, label_at_centers
from backend.microscope.databar import DATABAR_SHARE, draw_databar
from backend.microscope.devices import (
    MATERIALS,
    ActiveDesign,
    Device,
    GateDesign,
    Module,
    build_active,
    build_gate,
    draw_active_design,
    draw_gate_design,
    sheared,
)
from backend.microscope.equipment import (
    EQUIPMENT,
    Equipment,
    EquipmentName,
    Micrograph,
    detect,
    draw_exposure,
    draw_nm_per_px,
    focus,
)
from backend.microscope.lamella import (
    Lamella,
    draw_lamella,
    haze_share,
    relative_thickness,
    texture_field,
)
from backend.microscope.true_cds import TrueCD, measure_device
from backend.microscope.view import View

MIN_SIDE_PX = 48


@dataclass(frozen=True)
class SyntheticImage:
    """A synthetic micrograph and all that is true about it."""

    image: Micrograph  # (H, W), as the microscope stores it
    label_map: LabelMap  # (H, W), index into `materials`; UNLABELED on the data bar
    fractions: NDArray[np.float32]  # (C, H, W), share of each pixel; 0 on the data bar
    materials: tuple[str, ...]
    nm_per_px_x: float
    nm_per_px_y: float
    truth: tuple[TrueCD, ...]
    polygons_px: Mapping[str, BaseGeometry]  # by material, points (x = column, y = row)
    metadata: Mapping[str, Any]  # everything drawn by chance, ready for JSON
    device_rows: int  # rows that show the device; a data bar fills the others

    def without_databar(self) -> SyntheticImage:
        """The same image cut above its data bar."""
        rows = slice(self.device_rows)
        return replace(
            self,
            image=self.image[rows],
            label_map=self.label_map[rows],
            fractions=self.fractions[:, rows],
        )


def make_image(
    module: Module, equipment: EquipmentName, seed: int, shape: tuple[int, int] = (512, 512)
) -> SyntheticImage:
    """Draw a device and photograph it.

    Args:
        module: "gate" or "active".
        equipment: "A", "B" or "C"; only B burns a data bar into its images.
        seed: Not negative; the same arguments give the same bytes.
        shape: Height and width of the image in px, data bar included.

    Returns:
        The image with its label map, area fractions, true CDs and settings.

    Raises:
        ValueError: An argument is none of those above.
    """
    _check(module, equipment, seed, shape)
    streams = get_args(Module).index(module), get_args(EquipmentName).index(equipment)
    rng = np.random.default_rng([seed, *streams])
    microscope = EQUIPMENT[equipment]
    view = _draw_view(microscope, shape, rng)
    device, design = _draw_device(module, view, rng)
    polygons_px = {name: view.polygon_px(part) for name, part in device.polygons.items()}
    tiles = [polygons_px[name] for name in MATERIALS[module]]
    fractions = coverage_fractions(tiles, view.shape)
    image, settings = _record(module, microscope, fractions, view, rng)
    bar_rows = shape[0] - view.shape[0]
    bar = ((0, bar_rows), (0, 0))
    return SyntheticImage(
        image=draw_databar(image, bar_rows, view.nm_per_px_x) if bar_rows else image,
        label_map=np.pad(label_at_centers(tiles, view.shape), bar, constant_values=UNLABELED),
        fractions=np.pad(fractions, ((0, 0), *bar)),
        materials=MATERIALS[module],
        nm_per_px_x=view.nm_per_px_x,
        nm_per_px_y=view.nm_per_px_y,
        truth=measure_device(device, view),
        polygons_px=polygons_px,
        metadata={
            "module": module,
            "seed": seed,
            "view": asdict(view),
            "design": asdict(design),
            **settings,
        },
        device_rows=view.shape[0],
    )


def _check(module: str, equipment: str, seed: int, shape: tuple[int, int]) -> None:
    if module not in MATERIALS:
        raise ValueError(f"module is {module!r}: use one of {', '.join(MATERIALS)}")
    if equipment not in EQUIPMENT:
        raise ValueError(f"equipment is {equipment!r}: use one of {', '.join(EQUIPMENT)}")
    if seed < 0:
        raise ValueError(f"seed is {seed}: use 0 or more")
    if min(shape) < MIN_SIDE_PX:
        raise ValueError(f"shape is {shape}: both sides need at least {MIN_SIDE_PX} px")


def _draw_view(equipment: Equipment, shape: tuple[int, int], rng: np.random.Generator) -> View:
    """Choose magnification, tilt and the small difference between the two pixel sizes."""
    nm_per_px = draw_nm_per_px(equipment, shape[1], rng)
    anisotropy = rng.uniform(-0.003, 0.003)
    bar_rows = round(DATABAR_SHARE * shape[0]) if equipment.databar else 0
    return View(
        shape=(shape[0] - bar_rows, shape[1]),
        nm_per_px_x=nm_per_px,
        nm_per_px_y=nm_per_px * (1 + anisotropy),
        tilt_deg=rng.uniform(-3, 3),
    )


def _draw_device(
    module: Module, view: View, rng: np.random.Generator
) -> tuple[Device, GateDesign | ActiveDesign]:
    """Choose a design, realise it, and let the stage drift while it is recorded."""
    radius_nm = view.radius_nm + 10
    design: GateDesign | ActiveDesign
    if module == "gate":
        design = draw_gate_design(view.field_nm, rng)
        device = build_gate(design, radius_nm, rng)
    else:
        design = draw_active_design(view.field_nm, rng)
        device = build_active(design, radius_nm, rng)
    return sheared(device, rng.uniform(-0.01, 0.01)), design


def _record(
    module: Module,
    microscope: Equipment,
    fractions: NDArray[np.float32],
    view: View,
    rng: np.random.Generator,
) -> tuple[Micrograph, dict[str, Any]]:
    """Photograph what covers the pixels: the image and the settings it was taken with."""
    exposure = draw_exposure(microscope, rng)
    contrast = draw_contrast(module, microscope.mode, exposure, rng)
    lamella = draw_lamella(rng)
    intensity = _electrons(fractions, contrast, lamella, view, rng)
    image, (black, white) = detect(focus(intensity, exposure, rng), exposure, rng)
    return image, {
        "equipment": asdict(microscope),
        "exposure": asdict(exposure),
        "contrast": asdict(contrast),
        "lamella": asdict(lamella),
        "signal_black": black,
        "signal_white": white,
    }


def _electrons(
    fractions: NDArray[np.float32],
    contrast: Contrast,
    lamella: Lamella,
    view: View,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """What the electrons see before the optics: sum over materials of coverage x signal. (H, W)."""
    materials = list(contrast.scattering)
    dense = fractions[_dense(contrast)]
    thickness = relative_thickness(lamella, dense, view, rng)
    pair = (materials.index(contrast.alike[0]), materials.index(contrast.alike[1]))
    soft = grade_border(fractions, pair, contrast.graded_nm / view.nm_per_px_x)
    intensity = np.zeros(view.shape, dtype=np.float32)
    for index, name in enumerate(materials):
        texture = texture_field(contrast.textures[name], fractions[index], view, rng)
        scattering = np.float32(contrast.scattering[name]) * texture
        intensity += soft[index] * signal(contrast.mode, scattering, thickness)
    haze = haze_share(lamella, view)
    return intensity + haze * (intensity.mean() - intensity)


def _dense(contrast: Contrast) -> int:
    """Index of what makes curtains: the metal of gates, the filled trenches between actives."""
    materials = list(contrast.scattering)
    return materials.index("Metal" if "Metal" in materials else "Oxide")
