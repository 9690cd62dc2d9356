"""What a run of a recipe stands on: the image, the labels or the model, the recipe, the scale."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from backend.metrology.recipe import Recipe
from backend.metrology.recipe_file import recipe_definition, recipe_hash
from backend.metrology.rows import Row, finite, identify, to_json
from backend.microscope.calibration import Calibration
from backend.microscope.images import image_id

Mode = Literal["TEM", "BF", "DF", "HAADF", "unknown"]
LabelSource = Literal["ground_truth", "inference"]


@dataclass(frozen=True)
class ImageRecord:
    """An image, and what is known of it; None, and what was known before stays."""

    name: str
    path_rel: str  # from the database's folder, see `path_beside`
    file_sha256: str
    shape: tuple[int, int]  # (height, width)
    dataset: str = ""  # one file may hold several
    label_png_sha256: str | None = None  # of the picture that was labeled
    bit_depth: int | None = None
    mode: Mode | None = None
    instrument: str | None = None
    voltage_kv: float | None = None
    acquired_at: str | None = None  # ISO 8601
    lot: str | None = None
    wafer: str | None = None
    die: tuple[int, int] | None = None  # (x, y)
    site: str | None = None
    label_studio_task_id: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Of these bytes and this data set in them."""
        return image_id(self.file_sha256, self.dataset)

    def row(self) -> Row:
        """Row of the table `images`."""
        die_x, die_y = self.die or (None, None)
        row = {
            "id": self.id, "name": self.name, "path_rel": self.path_rel, "dataset": self.dataset,
            "file_sha256": self.file_sha256, "label_png_sha256": self.label_png_sha256,
            "width_px": self.shape[1], "height_px": self.shape[0], "bit_depth": self.bit_depth,
            "mode": self.mode, "instrument": self.instrument,
            "voltage_kv": finite(self.voltage_kv), "acquired_at": self.acquired_at,
            "lot": self.lot, "wafer": self.wafer, "die_x": die_x, "die_y": die_y,
            "site": self.site, "label_studio_task_id": self.label_studio_task_id,
            "metadata": to_json(self.metadata) if self.metadata else None,
        }  # fmt: skip
        return known(row)


@dataclass(frozen=True)
class ModelRecord:
    """The model that made the labels."""

    name: str
    weights_sha256: str
    classes: Sequence[str]
    version: str | None = None
    prior_sha256: str | None = None  # of the prior of the guide that the model started

    @property
    def id(self) -> str:
        """Of this version with these weights, and of the prior that had its say."""
        prior = (self.prior_sha256,) if self.prior_sha256 else ()
        return identify(self.name, self.version, self.weights_sha256, list(self.classes), *prior)

    def row(self) -> Row:
        """Row of the table `models`."""
        classes = to_json(list(self.classes))
        return {"id": self.id, "name": self.name, "version": self.version,
                "weights_sha256": self.weights_sha256, "classes": classes,
                "prior_sha256": self.prior_sha256}  # fmt: skip


@dataclass(frozen=True)
class RunSource:
    """Whose labels were measured: an annotator's, known by their hash, or a model's.

    Raises:
        ValueError: It is neither, or both.
    """

    label_sha256: str | None = None
    annotation_id: int | None = None
    annotator: str | None = None
    model: ModelRecord | None = None

    def __post_init__(self) -> None:
        if self.model is None and not self.label_sha256:
            raise ValueError("give the hash of the labels that were measured, or the model")
        if self.model is not None and self.annotation_id is not None:
            raise ValueError(
                "give either an annotation or a model: both cannot have made the labels"
            )

    @property
    def kind(self) -> LabelSource:
        """Which of the two."""
        return "inference" if self.model else "ground_truth"


TRAINED_ON = "trained_on"
"""Flag of a run on an image that the model has learned from: how right it is there says little."""


class RowsOfModel(NamedTuple):
    """Rows of a recipe that are alike, on labels of one model."""

    model_id: str
    recipe_id: str
    measurement: str
    side: str
    part: str
    quantity: str


class RowError(NamedTuple):
    """How far a model was off in rows that are alike, in pixels, degrees or as a ratio."""

    measurement: str
    side: str
    part: str
    quantity: str
    error: float


@dataclass(frozen=True)
class Run:
    """A recipe on an image: all that its results follow from."""

    image: ImageRecord
    recipe: Recipe
    source: RunSource
    calibration: Calibration | None
    engine_version: str
    other_calibrations: tuple[Calibration, ...] = ()  # found, and not used
    is_stated: bool = False  # a user says now that the scale is the image's
    model_errors: tuple[RowError, ...] = ()  # known when it was measured, part of its u_value

    @cached_property
    def recipe_id(self) -> str:
        """Of what the recipe says, without its description."""
        return recipe_hash(self.recipe)

    @cached_property
    def id(self) -> str:
        """The same for the same inputs, another for any other."""
        scale = calibration_id(self.image.id, self.calibration) if self.calibration else "none"
        made_by = self.source.model.id if self.source.model else self.source.label_sha256
        return identify(
            self.image.id, scale, self.recipe_id, self.source.kind, made_by, self.engine_version,
            *sorted(self.model_errors),
        )  # fmt: skip

    def row(self) -> Row:
        """Row of the table `runs`, as far as it is known before measuring."""
        by = "model" if self.source.model else "labels"
        calibration = self.calibration
        row = {
            "id": self.id,
            "name": f"{self.image.name} · {self.recipe.name} {self.recipe.version} · {by}",
            "image_id": self.image.id,
            "calibration_id": calibration_id(self.image.id, calibration) if calibration else None,
            "recipe_id": self.recipe_id,
            "source": self.source.kind,
            "annotation_id": self.source.annotation_id,
            "annotator": self.source.annotator,
            "label_sha256": self.source.label_sha256,
            "model_id": self.source.model.id if self.source.model else None,
            "engine_version": self.engine_version,
            "model_errors": to_json(sorted(self.model_errors)) if self.model_errors else None,
        }
        return known(row)

    def recipe_row(self) -> Row:
        """Row of the table `recipes`."""
        return {"id": self.recipe_id, "name": self.recipe.name, "version": self.recipe.version,
                "definition": recipe_definition(self.recipe)}  # fmt: skip


def calibration_id(image_id: str, calibration: Calibration) -> str:
    """Name a calibration by all that rows follow from, its uncertainty among them."""
    sizes = (calibration.nm_per_px_x, calibration.nm_per_px_y, calibration.rel_uncertainty)
    return identify(image_id, *map(float, sizes), calibration.source, calibration.detail)


def calibration_row(image_id: str, calibration: Calibration) -> Row:
    """Row of the table `calibrations`."""
    return {
        "id": calibration_id(image_id, calibration),
        "name": f"{calibration.nm_per_px:.5g} nm/px, {calibration.source}",
        "image_id": image_id,
        "nm_per_px_x": float(calibration.nm_per_px_x),
        "nm_per_px_y": float(calibration.nm_per_px_y),
        "rel_uncertainty": float(calibration.rel_uncertainty),
        "source": calibration.source,
        "detail": calibration.detail,
        "raw": calibration.raw,
        "reader": calibration.reader,
        "reader_version": calibration.reader_version,
        "created_by": calibration.created_by,
    }


def to_calibration(row: Mapping[str, Any]) -> Calibration:
    """Undo `calibration_row`."""
    names = {field.name for field in fields(Calibration)}
    return Calibration(**{name: value for name, value in row.items() if name in names})


def path_beside(database: Path, image: Path) -> str:
    """Where an image lies, seen from the database's folder: both may move together."""
    return Path(os.path.relpath(image.resolve(), database.resolve().parent)).as_posix()


def known(row: Row) -> Row:
    """A row without what nobody knows, so that an update keeps what was known before."""
    return {name: value for name, value in row.items() if value is not None}
