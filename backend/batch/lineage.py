"""From a CD back to what it stands on: its run, the labels, the shared model, its ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backend.learning.registry import ModelCard, Registry
from backend.metrology.database import CdDatabase
from backend.metrology.rows import Row
from backend.metrology.tables import with_unit

_SHOWN_OF_HASH = 12

_RUNS = """
  SELECT runs.*, images.name AS image, recipes.name AS recipe, recipes.version AS recipe_version,
    models.version AS model_version, models.weights_sha256, models.prior_sha256,
    (SELECT count(*) FROM measurements WHERE run_id = runs.id) AS cds
  FROM runs JOIN images ON images.id = runs.image_id JOIN recipes ON recipes.id = runs.recipe_id
    LEFT JOIN models ON models.id = runs.model_id
  WHERE runs.id = :wanted OR images.name = :wanted
    OR runs.id = (SELECT run_id FROM measurements WHERE id = :wanted)
  ORDER BY runs.last_run_at, runs.id"""


def trace(database: CdDatabase, wanted: str, registry: Registry) -> Iterator[str]:
    """Say line by line where CDs come from.

    Args:
        database: Holds them.
        wanted: Id of a measurement or of a run, or the name of an image for all of its runs.
        registry: Of the shared models.

    Raises:
        ValueError: The database has nothing of that name.
    """
    runs = list(database.query(_RUNS, {"wanted": wanted}))
    if not runs:
        raise ValueError(f"the database has no measurement, run or image {wanted}")
    for run in runs:
        yield (
            f"{run['image']} by recipe {run['recipe']} {run['recipe_version']}: {run['cds']} CDs, "
            f"run {run['id']}, last on {run['last_run_at'][:19]}"
        )
        for cd in database.query("SELECT * FROM measurements WHERE id = ?", [wanted]):
            yield f"  {_cd(cd)}"
        yield from _labels(run, registry)


def _cd(row: Row) -> str:
    place = " ".join(part for part in (row["structure"], str(row["instance"]), row["side"]) if part)
    if row["value"] is None:
        return f"{row['measurement']} of {place}: {row['status']}"
    doubt = "" if row["u_value"] is None else f" ± {row['u_value']:.3f}"
    value = with_unit(row["value"], row["unit"])
    return f"{row['measurement']} of {place}: {value}{doubt}, edges by {row['edge_method']}"


def _labels(run: Row, registry: Registry) -> Iterator[str]:
    """Who made the labels of a run; of a model, all it has learned from."""
    if run["source"] == "ground_truth":
        who = f" by {run['annotator']}" if run["annotator"] else ""
        drawn = f"annotation {run['annotation_id']}{who}" if run["annotation_id"] else "a mask"
        yield f"  labels: {drawn}, SHA-256 {_short(run['label_sha256'])}"
        return
    prior = f", prior SHA-256 {_short(run['prior_sha256'])}" if run["prior_sha256"] else ""
    yield (
        f"  labels: shared model {run['model_version']}, weights SHA-256 "
        f"{_short(run['weights_sha256'])}{prior}"
    )
    card = _find(registry, run["weights_sha256"])
    if card is None:
        yield (
            f"  {registry.folder} has no version with these weights: name the registry that the "
            "CDs were measured with"
        )
        return
    yield from (f"  {line}" for line in model_lines(card))


def model_lines(card: ModelCard) -> Iterator[str]:
    """Say what a version of the shared model stands on, an image a line."""
    iou = card.metrics.get("mean_iou")
    measured = "not measured" if iou is None else f"mean IoU {iou:.4f} on images it had not seen"
    parent = f"v{card.parent:04d} served before it" if card.parent else "the first to serve"
    yield f"{card.name}: trained on {len(card.images)} images, {card.created}; {measured}; {parent}"
    for name, digest in card.images.items():
        yield f"  {name}: {_origin(card.origins.get(name))}, SHA-256 {_short(digest)}"


def _origin(told: Mapping[str, Any] | None) -> str:
    if not told:
        return "from a folder"
    return (
        f"annotation {told['annotation']} of task {told['task']}, project {told['project']} on "
        f"{told['label_studio']}, by {told['annotator']}, {told['updated_at']}"
    )


def _find(registry: Registry, weights_sha256: str) -> ModelCard | None:
    """The version whose weights these are; the same number may mean another registry's."""
    for card in registry.cards():
        try:
            if registry.weights_sha256(card) == weights_sha256:
                return card
        except OSError:  # another one may be whole
            continue
    return None


def _short(digest: str | None) -> str:
    return (digest or "unknown")[:_SHOWN_OF_HASH]
