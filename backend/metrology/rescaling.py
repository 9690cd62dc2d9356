"""A stored run and another calibration → a run of the same measurement in other nanometres.

Nothing is measured again: pixels stay as they are. That holds only where the scale has no part in
what is measured, so recipes that place something by nanometres are refused.

Who corrects a scale has looked at it: a run that was under review for its scale alone is ok then.
Whatever else was to be looked at, a count, the alignment, still is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from backend.metrology.database import CdDatabase, get_row, make_newest, state_scale, write_run
from backend.metrology.recipe import Recipe
from backend.metrology.records import ImageRecord, ModelRecord, RowError, Run, RunSource
from backend.metrology.results import run_status
from backend.metrology.rows import UNCALIBRATED, to_json, to_measured
from backend.metrology.stated_scales import CORRECTED
from backend.microscope.calibration import Calibration

_LIMITS = {"target_nm", "lsl_nm", "usl_nm", "annotation"}
"""Nanometres that judge values, and place nothing."""
_OF_SCALE = (UNCALIBRATED, "scale_conflict", CORRECTED)
"""Flags that another scale makes true or not; how oblong pixels are stays as it is."""
_SAME_SHAPE = 1e-6  # of pixels, relative


def rescale(database: CdDatabase, run_id: str, calibration: Calibration) -> str:
    """Store a run once more with another scale, the image's from now on; the old run stays.

    The scale is the image's also where the run has to be measured again for its recipe's sake.

    Returns:
        The id of the new run; a run that was measured with that scale already is left as it is.

    Raises:
        KeyError: There is no such run.
        ValueError: The recipe or the shape of the pixels asks for measuring again.
        OSError: Another process has kept the database locked, or the disk is full.
    """
    stored = get_row(database, "runs", run_id)
    definition = get_row(database, "recipes", stored["recipe_id"])["definition"]
    recipe = Recipe.model_validate_json(definition)
    old = stored["calibration_id"] and get_row(database, "calibrations", stored["calibration_id"])
    x, y = (old["nm_per_px_x"], old["nm_per_px_y"]) if old else (1.0, 1.0)
    _check_shape(run_id, (x, y), calibration)
    placed = list(_placements(json.loads(definition)))
    if placed:
        state_scale(database, stored["image_id"], calibration)
        raise ValueError(
            f"run {run_id} cannot be rescaled: its recipe places by {', '.join(placed)}, which "
            f"{_again(get_row(database, 'images', stored['image_id']), stored, recipe)}"
        )
    run = _with_scale(database, stored, recipe, calibration)
    if database.table("runs").count_where("id = ?", [run.id]):
        state_scale(database, run.image.id, calibration)
        make_newest(database, run.id, **_corrected(get_row(database, "runs", run.id)))
        return run.id
    measurements, edges = (
        list(database.table(name).rows_where("run_id = ?", [run_id], order_by="rowid"))
        for name in ("measurements", "edges")
    )
    row = dict(stored) | _corrected(stored)
    measured = to_measured(row, measurements, edges)
    return write_run(database, run, measured, stored["duration_s"])


def _corrected(run: Mapping[str, Any]) -> dict[str, str]:
    """Flags and status of a run whose scale a user has corrected."""
    flags = [flag for flag in json.loads(run["flags"]) if flag not in _OF_SCALE] + [CORRECTED]
    status = run_status(flags, has_values=run["status"] != "failed")
    return {"flags": to_json(flags), "status": status}


def _again(image: Mapping[str, Any], run: Mapping[str, Any], recipe: Recipe) -> str:
    """Say what is to be measured again, and by which command."""
    labels = "--dataset, --project or --labels as before"
    return (
        f"lie elsewhere under another scale: measure the image again: measure_cds.py with "
        f"{'--registry' if run['model_id'] else labels}, for {image['path_rel']} and recipe "
        f"{recipe.name} {recipe.version}; it will be with this scale"
    )


def _placements(part: object) -> Iterator[str]:
    """The keys of a recipe that put a place or a threshold into nanometres."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key in _LIMITS or value is None:
                continue
            if key.endswith(("_nm", "_nm2")):
                yield key
            yield from _placements(value)
    elif isinstance(part, list):
        for value in part:
            yield from _placements(value)


def _check_shape(run_id: str, old: tuple[float, float], new: Calibration) -> None:
    """Angles and normals were computed on pixels of one shape; another shape has others."""
    x, y = old
    if math.isclose(new.nm_per_px_x * y, new.nm_per_px_y * x, rel_tol=_SAME_SHAPE):
        return
    factor = new.nm_per_px / math.sqrt(x * y)
    raise ValueError(
        f"run {run_id} cannot be rescaled: its pixels measure x : y = {x:g} : {y:g}, not "
        f"{new.nm_per_px_x:g} : {new.nm_per_px_y:g}: give {x * factor:.9g} and {y * factor:.9g} "
        "nm, or measure the image again"
    )


def _with_scale(
    database: CdDatabase, stored: Mapping[str, Any], recipe: Recipe, calibration: Calibration
) -> Run:
    """The run as it would have been with that scale."""
    row = get_row(database, "images", stored["image_id"])
    image = ImageRecord(
        row["name"], row["path_rel"], row["file_sha256"], (row["height_px"], row["width_px"]),
        dataset=row["dataset"],
    )  # fmt: skip
    model = None
    if stored["model_id"]:
        named = get_row(database, "models", stored["model_id"])
        classes = json.loads(named["classes"])
        model = ModelRecord(
            named["name"], named["weights_sha256"], classes, named["version"], named["prior_sha256"]
        )
    source = RunSource(stored["label_sha256"], stored["annotation_id"], stored["annotator"], model)
    errors = tuple(RowError(*one) for one in json.loads(stored["model_errors"] or "[]"))
    return Run(
        image, recipe, source, calibration, stored["engine_version"], is_stated=True,
        model_errors=errors,
    )  # fmt: skip
