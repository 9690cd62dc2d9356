"""A CD recipe: which structures an image shows, and what of them is measured.

The vocabulary follows layout rule checks (width, space, enclosure) and the 2-D metrology models of
machine vision (align first, then probe). Every length ends in `_nm` or `_px`, every area in `_nm2`
or `_px2`, every angle in `_deg`; fractions are bare: 0 is the base of a structure, 1 its top.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA = "tem-cd-recipe/1"

Tier = Literal["gray", "prob", "label"]
Side = Literal["left", "right"]
Statistic = Literal["n", "mean", "median", "std", "three_sigma", "min", "max", "range", "ci95"]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Level: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
"""Share of an instance's height; at its very base or top no band of it has room."""
Positive: TypeAlias = Annotated[float, Field(gt=0)]
BOTH_SIDES: tuple[Side, ...] = ("left", "right")


class Part(BaseModel):
    """A piece of a recipe: a key it does not know is a mistake, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=False)


class Scaled(Part):
    """A piece with lengths in nanometres or in pixels."""

    def length_px(self, name: str, nm_per_px: float | None) -> float | None:
        """The length `name` in isotropic pixels, however the recipe gives it; None if it does not.

        Raises:
            ValueError: It is given in nanometres, and the image has no calibration.
        """
        in_px: float | None = getattr(self, f"{name}_px")
        in_nm: float | None = getattr(self, f"{name}_nm")
        if in_nm is None:
            return in_px
        if nm_per_px is None:
            raise ValueError(f"{name}_nm needs a calibrated image: give it as {name}_px")
        return in_nm / nm_per_px


def _only_one(part: Part, names: tuple[str, ...], *, required: bool) -> None:
    given = [name for name in names if getattr(part, name) is not None]
    if len(given) > 1:
        raise ValueError(f"give only one of {', '.join(given)}")
    if required and not given:
        raise ValueError(f"give one of {', '.join(names)}")


class CalibrationRule(Part):
    """What is asked of the pixel size."""

    require: bool = True  # false: pixels only, flagged `uncalibrated`
    max_anisotropy: Annotated[float, Field(ge=0)] = 0.005


class FrameRule(Part):
    """Which way is up: u runs along the reference interface, v away from the substrate."""

    align: Literal["interface", "structure_axis", "angle", "none"] = "interface"
    between: tuple[str, str] | None = None  # materials; None: the substrate's top
    axis_of: str | None = None  # with `structure_axis`: the structures whose mid-lines are v
    angle_deg: float | None = None  # with `angle`
    trim_fraction: Annotated[float, Field(gt=0, le=1)] | None = None  # central part of a fragment
    max_tilt_deg: Positive = 15.0
    min_baseline_px: Positive = 64

    @model_validator(mode="after")
    def _check(self) -> FrameRule:
        if self.align == "angle" and self.angle_deg is None:
            raise ValueError("align: angle needs angle_deg")
        if (self.align == "structure_axis") != (self.axis_of is not None):
            raise ValueError("align: structure_axis and axis_of go together")
        return self


class EdgeRules(Part):
    """How edges are placed, and when a fit is believed."""

    prefer: Annotated[tuple[Tier, ...], Field(min_length=1)] = ("gray", "prob", "label")
    intensity: Literal["linear"] = "linear"
    window_px: Annotated[float, Field(ge=2)] = 7
    average_along_px: Annotated[int, Field(ge=1)] = 3
    """Of an edge, fitted at once at least: a narrower band is widened to it, and always to 12."""
    max_shift_px: Positive = 4
    min_cnr: Positive = 2.0
    u_place_px: Annotated[float, Field(ge=0)] = 0.5  # an annotator's placement of an edge, 1 sigma
    u_gray_px: Annotated[float, Field(ge=0)] = 0.4
    """How far the edge of the gray values lies from that of the material, 1 sigma.

    What no fit can know of itself: grain, damage haze and graded interfaces. Widths of gates on
    synthetic images of equipment A and B were off by 0.6 px (root mean square, 16 of them), which
    is 0.4 px an edge.
    """


class Expected(Part):
    """How many instances an image should show."""

    min: Annotated[int, Field(ge=0)] = 1
    max: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Expected:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is less than min {self.min}")
        return self


class InterfaceBase(Part):
    """The base is where the structure touches a material."""

    interface_with: str


class Cut(Part):
    """Keep only what lies above, or below, the fitted level of another structure."""

    level_of: str
    part: Literal["base", "top"]
    keep: Literal["above", "below"]


class StructureRule(Part):
    """Connected pieces of some materials, numbered."""

    materials: Annotated[tuple[str, ...], Field(min_length=1)]
    order: Literal["left_to_right", "top_to_bottom"] = "left_to_right"
    border: Literal["exclude", "keep_flagged"] = "exclude"
    min_area_nm2: Positive | None = None
    min_area_px2: Positive | None = None
    expect: Expected = Expected()
    base: InterfaceBase | Literal["bbox_bottom", "cut"] = "bbox_bottom"
    cut: Cut | None = None

    @model_validator(mode="after")
    def _check(self) -> StructureRule:
        _only_one(self, ("min_area_nm2", "min_area_px2"), required=False)
        if self.base == "cut" and self.cut is None:
            raise ValueError("base: cut needs cut: {level_of, part, keep}")
        if self.base == "cut" and self.cut is not None and self.cut.keep == "below":
            raise ValueError("what is kept below a cut has it as its top: base cannot be cut")
        return self

    def min_area_px(self, nm_per_px: float | None) -> float:
        """Smallest area of an instance in square pixels.

        Raises:
            ValueError: It is given in nm2, and the image has no calibration.
        """
        if self.min_area_nm2 is None:
            return self.min_area_px2 or 0.0
        if nm_per_px is None:
            raise ValueError("min_area_nm2 needs a calibrated image: give it as min_area_px2")
        return self.min_area_nm2 / nm_per_px**2


class Sweep(Part):
    """Levels from one fraction to another, both included."""

    from_: Level = Field(alias="from")
    to: Level
    step: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _check(self) -> Sweep:
        if self.to <= self.from_:
            raise ValueError(f"to {self.to} is not above from {self.from_}")
        return self

    def fractions(self) -> tuple[float, ...]:
        """The levels.

        Example:
            >>> Sweep.model_validate({"from": 0.1, "to": 0.3, "step": 0.1}).fractions()
            (0.1, 0.2, 0.3)
        """
        steps = math.floor((self.to - self.from_) / self.step + 1e-9)
        return tuple(round(self.from_ + i * self.step, 9) for i in range(steps + 1))


class At(Scaled):
    """The height at which an instance is measured."""

    fraction: Level | None = None
    offset_nm: Annotated[float, Field(ge=0)] | None = None
    offset_px: Annotated[float, Field(ge=0)] | None = None
    sweep: Sweep | None = None
    from_: Literal["base", "top"] = Field("base", alias="from")  # of an offset
    band: Annotated[float, Field(gt=0, le=1)] = 0.04  # of the height, centred

    @model_validator(mode="after")
    def _check(self) -> At:
        _only_one(self, ("fraction", "offset_nm", "offset_px", "sweep"), required=True)
        return self


FractionPair: TypeAlias = tuple[Fraction, Fraction]


class Site(Scaled):
    """Where on a structure a film is measured."""

    structure: str
    part: Literal["base", "top", "sidewall"]
    inset_nm: Annotated[float, Field(ge=0)] | None = None
    inset_px: Annotated[float, Field(ge=0)] | None = None
    between_fractions: FractionPair = (0.4, 0.6)

    @model_validator(mode="after")
    def _check(self) -> Site:
        _only_one(self, ("inset_nm", "inset_px"), required=False)
        _check_pair(self.between_fractions)
        return self


def _check_pair(pair: tuple[float, float]) -> None:
    if pair[1] <= pair[0]:
        raise ValueError(f"between_fractions must rise, not {pair[0]} to {pair[1]}")


class Limits(Part):
    """What every measurement has: a name, and perhaps limits in the unit of its value."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    target_nm: float | None = None
    lsl_nm: float | None = None
    usl_nm: float | None = None
    target_deg: float | None = None
    lsl_deg: float | None = None
    usl_deg: float | None = None
    target: float | None = None  # of a ratio
    lsl: float | None = None
    usl: float | None = None


class Width(Limits):
    """Right minus left edge of an instance; with `stat` the widest or narrowest of a sweep."""

    kind: Literal["width"]
    of: str
    at: At
    stat: Literal["mean", "max", "min"] = "mean"


class Height(Limits):
    """Top minus base, each a level fitted to the central part of its plateau (ISO 5436-1)."""

    kind: Literal["height"]
    of: str
    plateau: Annotated[float, Field(gt=0, le=1)] = 1 / 3


class Recess(Limits):
    """Level of `top_of` within a structure minus that of its neighbours; + is above."""

    kind: Literal["recess"]
    of: str
    top_of: str
    against: str
    plateau: Annotated[float, Field(gt=0, le=1)] = 1 / 3


class Thickness(Limits):
    """Normal distance of a film's two interfaces at a site."""

    kind: Literal["thickness"]
    film: str
    between: tuple[str, str]
    site: Site
    sides: tuple[Side, ...] = BOTH_SIDES
    step_px: Positive = 1
    film_gray: Literal["auto"] | float | None = None


class Distance(Limits):
    """Between two structures: edge to edge, centre to centre, or the inner margins."""

    kind: Literal["distance", "overlay", "enclosure"]
    of: str
    to: str
    at: At = At(fraction=0.5)
    sides: tuple[Side, ...] = BOTH_SIDES


class Gap(Limits):
    """Of neighbours i and i + 1: distance of their mid-lines, or the space between them."""

    kind: Literal["pitch", "space"]
    of: str
    at: At


class SidewallAngle(Limits):
    """Base direction to side; 90 is vertical, below 90 wider at the base."""

    kind: Literal["sidewall_angle"]
    of: str
    between_fractions: FractionPair = (0.15, 0.85)
    sides: tuple[Side, ...] = BOTH_SIDES


class Tilt(Limits):
    """Angle of the mid-line from v (lean), or that of (bottom - top CD) / (2 height) (taper)."""

    kind: Literal["tilt"]
    of: str
    between_fractions: FractionPair = (0.15, 0.85)
    quantity: Literal["lean", "taper"] = "lean"


class CornerRadius(Limits):
    """Circle between the tangent points of side and plateau."""

    kind: Literal["corner_radius"]
    of: str
    part: Literal["top", "base"] = "top"
    sides: tuple[Side, ...] = BOTH_SIDES


class Outline(Limits):
    """Area of the sub-pixel contour, or the axes of its ellipse."""

    kind: Literal["area", "diameter"]
    of: str


class Roughness(Limits):
    """3 sigma of the residuals of edge (ler) or width (lwr) from the best line."""

    kind: Literal["roughness"]
    of: str
    quantity: Literal["ler", "lwr"]
    between_fractions: FractionPair = (0.15, 0.85)
    sides: tuple[Side, ...] = BOTH_SIDES  # of ler


class Ratio(Limits):
    """An expression over other measurements."""

    kind: Literal["ratio"]
    expr: str


Rule: TypeAlias = Annotated[
    Width | Height | Recess | Thickness | Distance | Gap | SidewallAngle | Tilt | CornerRadius
    | Outline | Roughness | Ratio,
    Field(discriminator="kind"),
]  # fmt: skip


class Annotation(Part):
    """Steers labeling only: how far each CD may be uncertain (1 sigma)."""

    u_max_nm: dict[str, Positive] = Field(default_factory=dict)
    u_max_px: dict[str, Positive] = Field(default_factory=dict)  # where u_max_nm says nothing
    u_max_deg: dict[str, Positive] = Field(default_factory=dict)


class Recipe(Part):
    """All of it. `recipe_file.load_recipe` reads one, and tells every mistake with its line."""

    schema_: Literal["tem-cd-recipe/1"] = Field(alias="schema")
    name: Annotated[str, Field(min_length=1)]
    version: Annotated[int, Field(ge=1)]
    description: str = ""
    materials: Annotated[dict[str, str], Field(min_length=1)]  # key -> label of the project
    calibration: CalibrationRule = CalibrationRule()
    roi_fraction: tuple[Fraction, Fraction, Fraction, Fraction] = (0, 0, 1, 1)  # x0, y0, x1, y1
    frame: FrameRule = FrameRule()
    edges: EdgeRules = EdgeRules()
    structures: Annotated[dict[str, StructureRule], Field(min_length=1)]
    measurements: Annotated[tuple[Rule, ...], Field(min_length=1)]
    summary: tuple[Statistic, ...] = (
        "n", "mean", "median", "std", "three_sigma", "min", "max", "range", "ci95",
    )  # fmt: skip
    annotation: Annotation = Annotation()

    def rule(self, measurement: str) -> Rule:
        """The measurement of that id.

        Raises:
            KeyError: There is none.
        """
        return {rule.id: rule for rule in self.measurements}[measurement]
