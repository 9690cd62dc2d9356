"""An image's labels, a recipe and a pixel size → all its critical dimensions.

Steps: frame, structures, edges by tier, measurements, ratios. What cannot be found or measured is
a row that says so; nothing is left out and nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from backend.arrays import UNLABELED
from backend.metrology.bodies import WALLS, UnmeasurableError
from backend.metrology.contours import Points, interface_points
from backend.metrology.frame import Frame, Limits, aligned, along_axes, fragments
from backend.metrology.gray_edges import GrayImage
from backend.metrology.image_rows import Finding, Found, Views, rule_rows
from backend.metrology.kinds import structure_of
from backend.metrology.ratios import ratio_rows
from backend.metrology.recipe import Ratio, Recipe
from backend.metrology.results import UNEVEN, Measured, MeasuredCD, MeasuredEdge, run_status
from backend.metrology.structures import Instance, Region, find_instances, in_order, mid_line
from backend.metrology.subject import UNVERIFIED, Subject
from backend.metrology.tiers import EDGES, Source, Tiers

_EDGE_STEP = 8  # of the samples of an edge, which one is kept for drawing


def measure_image(subject: Subject, recipe: Recipe) -> Measured:
    """Measure all that a recipe asks for.

    Args:
        subject: One image's labels, and what else is known of it.
        recipe: What to measure.

    Raises:
        ValueError: The image's labels lack a material of the recipe, or the recipe is circular.
    """
    classes = _classes(subject, recipe)
    region = _aligned(subject, recipe, classes)
    frame = region.frame
    gray = None
    if subject.gray is not None and not subject.no_gray:
        gray = GrayImage(subject.gray, subject.label_map, frame, recipe.edges)
    tiers = Tiers(subject, recipe, frame, classes, gray)
    found = _find_all(tiers, region)
    views = _views(tiers, found)
    cds: list[MeasuredCD] = []
    for rule in recipe.measurements:
        if not isinstance(rule, Ratio):
            cds += rule_rows(rule, found[structure_of(rule)], recipe, views)
    for rule in recipe.measurements:
        if isinstance(rule, Ratio):
            cds += ratio_rows(rule, cds)
    uneven = dict.fromkeys(f"{UNEVEN}:{cd.structure}" for cd in cds if UNEVEN in cd.flags)
    flags = (*_flags(subject, recipe, frame, found), *uneven)
    return Measured(
        run_status(flags, has_values=any(cd.value is not None for cd in cds)),
        tuple(cds),
        _edges(found),
        None if "no_align" in frame.flags else frame.tilt_deg,
        None if "no_align" in frame.flags else frame.tilt_u_deg,
        flags,
    )


def count_instances(subject: Subject, recipe: Recipe) -> dict[str, int]:
    """How many of each structure an image's labels hold; those that want a scale are left out.

    Raises:
        ValueError: The image's labels lack a material of the recipe, or the recipe is circular.
    """
    classes = _classes(subject, recipe)
    region = _aligned(subject, recipe, classes)
    edges = recipe.edges.model_copy(update={"prefer": ("label",)})
    drawn = recipe.model_copy(update={"edges": edges})
    tiers = Tiers(subject, drawn, region.frame, classes, None)
    found = _find_all(tiers, region)
    return {name: len(one.instances) for name, one in found.items() if one.absent != "uncalibrated"}


def _aligned(subject: Subject, recipe: Recipe, classes: Mapping[str, int]) -> Region:
    """The part of the image that is measured, in the frame that the recipe asks for."""
    region, scale = _region(subject, recipe), subject.calibration
    frame = _frame(region, recipe, classes, scale.nm_per_px if scale else None)
    return replace(region, frame=frame)


def _classes(subject: Subject, recipe: Recipe) -> dict[str, int]:
    missing = [label for label in recipe.materials.values() if label not in subject.labels]
    if missing:
        raise ValueError(
            f"the image's labels are {', '.join(subject.labels)}: the recipe's materials "
            f"{', '.join(missing)} are not among them"
        )
    return {key: subject.labels.index(label) for key, label in recipe.materials.items()}


def _region(subject: Subject, recipe: Recipe) -> Region:
    """Cut the labels to the part of the image that is measured.

    Raises:
        ValueError: There is none.
    """
    height, width = subject.label_map.shape
    left, top, right, bottom = recipe.roi_fraction
    low, end = math.ceil(top * height - 1e-9), math.floor(bottom * height + 1e-9)
    rows = slice(low, min(end, height - subject.databar_rows))
    columns = slice(math.ceil(left * width - 1e-9), math.floor(right * width + 1e-9))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        raise ValueError(
            f"roi_fraction {recipe.roi_fraction} holds no pixel of an image of {width} x {height} "
            f"px with {subject.databar_rows} rows of data bar: make it larger"
        )
    scales = (1.0, 1.0)
    if subject.calibration is not None:
        size = subject.calibration.nm_per_px
        scales = subject.calibration.nm_per_px_y / size, subject.calibration.nm_per_px_x / size
    frame = Frame(0.0, row_scale=scales[0], column_scale=scales[1])
    return Region(subject.label_map[rows, columns], (rows.start, columns.start), frame)


def _frame(
    region: Region, recipe: Recipe, classes: Mapping[str, int], nm_per_px: float | None
) -> Frame:
    """Align the measuring frame as the recipe says."""
    rule = recipe.frame
    if rule.align == "none":
        return region.frame
    if rule.align == "angle":
        return replace(region.frame, tilt_deg=rule.angle_deg or 0.0)
    limits = Limits(rule.max_tilt_deg, rule.min_baseline_px)
    if rule.align == "structure_axis":
        return along_axes(region.frame, _axes(region, recipe, classes, nm_per_px), limits)
    below, above = _between(region, recipe, classes)
    points = interface_points(region.label_map, below, above) + np.array(region.corner)
    return aligned(region.frame, fragments(points, rule.trim_fraction), limits)


def _axes(
    region: Region, recipe: Recipe, classes: Mapping[str, int], nm_per_px: float | None
) -> list[Points]:
    """Mid-lines of the structures that the frame follows; none where a scale is wanting."""
    name = recipe.frame.axis_of or ""
    rule = recipe.structures[name]
    if rule.min_area_nm2 is not None and nm_per_px is None:
        return []
    materials = [classes[material] for material in rule.materials]
    least = rule.min_area_px(nm_per_px)
    found, _ = find_instances(region, name, rule, materials, min_area_px=least)
    return [mid_line(instance) for instance in found]


def _between(
    region: Region, recipe: Recipe, classes: Mapping[str, int]
) -> tuple[list[int], list[int]]:
    """Classes under and above the reference interface; by default the substrate's top."""
    if recipe.frame.between is not None:
        lower, upper = recipe.frame.between
        return [classes[lower]], [classes[upper]]
    known = [row[row != UNLABELED] for row in region.label_map[::-1]]
    lowest = next((row for row in known if len(row)), np.zeros(1, dtype=np.uint8))
    substrate = int(np.bincount(lowest).argmax())
    return [substrate], [index for index in classes.values() if index != substrate]


def _find_all(tiers: Tiers, region: Region) -> dict[str, Finding]:
    """Instances of all structures with their bodies, each after those that cut it."""
    found: dict[str, Finding] = {}
    for name in in_order(tiers.recipe.structures):
        rule = tiers.recipe.structures[name]
        cutting = found[rule.cut.level_of] if rule.cut else Finding()
        found[name] = _find(tiers, region, name, cutting)
    return found


def _find(tiers: Tiers, region: Region, name: str, cutting: Finding) -> Finding:
    rule = tiers.recipe.structures[name]
    calibration = tiers.subject.calibration
    try:
        least = rule.min_area_px(calibration.nm_per_px if calibration else None)
    except ValueError:
        return Finding(absent="uncalibrated")
    made = cutting.instances
    label_bases = tuple(one.label_body for one in made if one.label_body is not None)
    bases = tuple(one.body for one in made if one.body is not None)
    if rule.cut is not None and rule.cut.part == "top":  # then their tops are what it stands on
        label_bases, bases = (
            tuple(replace(body, base=body.top) for body in bodies)
            for bodies in (label_bases, bases)
        )
    cut_v = None
    if rule.cut is not None:
        if not label_bases:
            return Finding(absent=cutting.absent)
        cut_v = float(np.mean([body.base.v for body in label_bases]))
    classes = [tiers.classes[material] for material in rule.materials]
    instances, at_border = find_instances(region, name, rule, classes, cut_v, min_area_px=least)
    sources = Source.of_rule(rule, label_bases), Source.of_rule(rule, bases)
    found = tuple(_found(tiers, instance, *sources) for instance in instances)
    return Finding(found, "at_border" if at_border else "not_found")


def _found(tiers: Tiers, instance: Instance, label: Source, preferred: Source) -> Found:
    try:
        label_body = tiers.label_body(instance, label)
    except UnmeasurableError as error:
        return Found(instance, None, None, str(error))
    if tiers.order == ("label",):
        return Found(instance, label_body, label_body)
    try:
        return Found(instance, tiers.body(instance, preferred), label_body)
    except UnmeasurableError as error:
        return Found(instance, None, label_body, str(error))


def _views(tiers: Tiers, found: Mapping[str, Finding]) -> Views:
    calibration = tiers.subject.calibration
    nm_per_px = calibration.nm_per_px if calibration else None
    bodies = {name: [f.body for f in one.instances if f.body] for name, one in found.items()}
    label_bodies = {
        name: [f.label_body for f in one.instances if f.label_body] for name, one in found.items()
    }
    return Views(
        tiers.scene(bodies, nm_per_px, is_label=False),
        tiers.scene(label_bodies, nm_per_px, is_label=True),
        (*tiers.frame.flags, *((UNVERIFIED,) if tiers.subject.is_inferred else ())),
    )


def _flags(
    subject: Subject, recipe: Recipe, frame: Frame, found: Mapping[str, Finding]
) -> tuple[str, ...]:
    """What is to be known about the whole image."""
    flags = list(frame.flags)
    calibration = subject.calibration
    if calibration is None:
        flags.append("uncalibrated")
    elif calibration.anisotropy > recipe.calibration.max_anisotropy:
        flags.append("anisotropic")
    if "gray" in recipe.edges.prefer and subject.no_gray:
        flags.append(subject.no_gray)
    for name, rule in recipe.structures.items():
        count, expect = len(found[name].instances), rule.expect
        if count < expect.min or (expect.max is not None and count > expect.max):
            flags.append(f"unexpected_count:{name}")
    return tuple(flags)


def _edges(found: Mapping[str, Finding]) -> tuple[MeasuredEdge, ...]:
    """Edges as points for drawing."""
    bodies = [f.body for one in found.values() for f in one.instances if f.body is not None]
    edges = []
    for body in bodies:
        for name in EDGES:
            curve = body.seed[name]
            points = np.stack([curve.across, curve.along], axis=-1)[::_EDGE_STEP]
            points = points if name in WALLS else points[:, ::-1]
            points = body.frame.to_px(points[np.isfinite(points).all(axis=1)])
            drawn = tuple((float(row), float(column)) for row, column in points)
            edges.append(
                MeasuredEdge(body.instance.structure, body.index, name, curve.method, drawn)
            )
    return tuple(edges)
