"""A recipe file → a `Recipe`, or all its mistakes at once, each with file, line and path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from backend.errors import RecipeError
from backend.metrology import recipe_yaml
from backend.metrology.recipe import Recipe
from backend.metrology.recipe_checks import check_recipe
from backend.metrology.recipe_errors import explain, schema_of_recipe
from backend.metrology.recipe_yaml import Document, Mistake, read_document

MAX_BYTES = 1_000_000
HASH_DIGITS = 16
_NOT_HASHED = {"description", "annotation"}


def load_recipe(path: Path, labels: Sequence[str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        path: A YAML file in UTF-8.
        labels: Those of the project: what the recipe's materials name must be among them.

    Raises:
        RecipeError: With all mistakes, a line for each.
        OSError: The file cannot be read.
    """
    content = path.read_bytes()
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{path}: it has {len(content)} bytes, a recipe has a few thousand")
    try:
        document = read_document(content.decode())
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RecipeError(f"{path}:{line}: it is not in UTF-8: save it so") from None
    recipe, mistakes = _validate(document)
    if isinstance(document.data, dict):
        mistakes += check_recipe(document.data, labels)
    if recipe is None or mistakes:
        lines = [(mistake.line or document.line(mistake.path), mistake) for mistake in mistakes]
        in_order = sorted(dict.fromkeys(lines), key=lambda found: found[0])
        raise RecipeError(
            "\n".join(
                f"{path}:{line}: {_dotted(found.path)}{found.text}" for line, found in in_order
            )
        )
    return recipe


def recipe_definition(recipe: Recipe) -> str:
    """All that the recipe's file says, without comments, as JSON that does not depend on layout."""
    return _canonical(recipe.model_dump(mode="json", by_alias=True, exclude_unset=True))


def recipe_hash(recipe: Recipe) -> str:
    """What identifies a recipe: 16 hex digits of what its file says that steers measuring.

    Description and annotation may change without a new hash; a default that is written out counts,
    since it stays when defaults change.
    """
    said = json.loads(recipe_definition(recipe))
    steering = {key: value for key, value in said.items() if key not in _NOT_HASHED}
    return hashlib.sha256(_canonical(steering).encode()).hexdigest()[:HASH_DIGITS]


def recipe_schema() -> str:
    """The JSON Schema of a recipe, for editors."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(dialect | dict(schema_of_recipe()), indent=1) + "\n"


def _validate(document: Document) -> tuple[Recipe | None, list[Mistake]]:
    """Read the form; of a place that YAML misread nothing more is said."""
    mistakes = list(document.mistakes)
    if document.data is None and mistakes:
        return None, mistakes
    try:
        return Recipe.model_validate_json(json.dumps(document.data), strict=True), mistakes
    except ValidationError as error:
        told = {mistake.path for mistake in mistakes}
        found = explain(error.errors(include_url=False), document.data)
        return None, mistakes + [mistake for mistake in found if mistake.path not in told]


def _canonical(data: object) -> str:
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _dotted(path: recipe_yaml.Path) -> str:
    """A path as people write it.

    Example:
        >>> _dotted(("measurements", 0, "at"))
        'measurements[0].at: '
    """
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"{steps.lstrip('.')}: " if path else ""
