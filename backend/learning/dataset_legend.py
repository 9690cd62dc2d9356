"""The JSON of a dataset: what the classes of its masks are, and where its images come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.arrays import MAX_CLASSES, UNLABELED
from backend.errors import InvalidDatasetError

LEGEND, MANIFEST = "legend.json", "manifest.json"


def read_materials(path: Path) -> tuple[str, ...]:
    """Read the materials of a legend, in the order of their classes; none if there is no file.

    Raises:
        InvalidDatasetError: It is damaged, or its masks would mean something else.
    """
    if not path.exists():
        return ()
    legend = read_json_object(path)
    names = legend.get("materials")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise InvalidDatasetError(f'{path} needs "materials": a list of names, class by class')
    if len(set(names)) < len(names) or not 2 <= len(names) <= MAX_CLASSES:  # noqa: PLR2004 - to tell apart
        raise InvalidDatasetError(
            f"{path} names the materials {', '.join(names)}: give 2 to {MAX_CLASSES}, each once"
        )
    if legend.get("ignore_index", UNLABELED) != UNLABELED:
        raise InvalidDatasetError(
            f"{path} says ignore_index {legend['ignore_index']}: masks must hold {UNLABELED} where "
            "the class is unknown"
        )
    return tuple(names)


def legend_json(materials: Sequence[str], colors: Sequence[str]) -> bytes:
    """A legend of masks: materials in the order of their classes, a color "#rrggbb" for each."""
    fields = {
        "materials": list(materials),
        "ignore_index": UNLABELED,
        "colors": dict(zip(materials, colors, strict=True)),
    }
    return (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode()


def read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """Read the entries of a manifest by name, without the suffix; none if there is no file.

    Raises:
        InvalidDatasetError: It is damaged.
    """
    if not path.exists():
        return {}
    entries = read_json_object(path).get("images")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries
    ):
        raise InvalidDatasetError(f'{path} needs "images": a list of entries with a "name" each')
    return {entry["name"].removesuffix(".png"): entry for entry in entries}


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InvalidDatasetError: It holds something else, or no JSON.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidDatasetError(f"{path} is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidDatasetError(f"{path} holds no JSON object")
    return fields
