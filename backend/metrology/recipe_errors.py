"""What pydantic says of a recipe → one sentence for each place in the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic_core import ErrorDetails

from backend.metrology.recipe import Recipe
from backend.metrology.recipe_checks import hint
from backend.metrology.recipe_yaml import Mistake, Path

_UNITS = ("_nm", "_px", "_nm2", "_px2", "_deg")


def explain(errors: Iterable[ErrorDetails], data: Any) -> Iterator[Mistake]:  # noqa: ANN401
    """Tell what is wrong with the form of a recipe, once for each place.

    Args:
        errors: Of a `ValidationError`.
        data: The recipe as it was read.
    """
    placed = [(_path(error, data), error) for error in errors]
    texts: dict[Path, list[str]] = {}
    for path, error in placed:
        goes_deeper = any(path == other[: len(path)] != other for other, _ in placed)
        if error["type"] != "literal_error" or not goes_deeper:  # a mapping was meant, no word
            texts.setdefault(path, []).append(_sentence(error, path, data))
    for path, told in texts.items():
        yield Mistake(path, "; or ".join(dict.fromkeys(told)))


def _path(error: ErrorDetails, data: Any) -> Path:  # noqa: ANN401
    """Where an error stands in the file: its location without pydantic's names of branches."""
    path: list[str | int] = []
    location = error["loc"]
    for number, step in enumerate(location):
        is_kind = number == 2 and location[0] == "measurements"  # noqa: PLR2004
        if is_kind:
            continue
        if _holds(data, step):
            data = data[step]
            path.append(step)
        elif error["type"] == "missing" and number == len(location) - 1:
            path.append(step)
    return tuple(path)


def _holds(data: object, step: str | int) -> bool:
    if isinstance(data, Mapping):
        return step in data
    return isinstance(data, list) and isinstance(step, int) and step < len(data)


def _sentence(error: ErrorDetails, path: Path, data: Any) -> str:  # noqa: ANN401
    told = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "it is missing"
        case "extra_forbidden":
            return f"unknown key{_key_hint(str(path[-1]), _keys(path[:-1], data))}"
        case "union_tag_not_found":
            return "kind is missing, it says what is measured"
        case "union_tag_invalid":
            kinds = str(told["expected_tags"]).replace("'", "").split(", ")
            return f"there is no kind {told['tag']}{hint(str(told['tag']), kinds)}"
        case "value_error":
            return str(told["error"])
    text = error["msg"].replace("Input should", "it should").replace("an object", "a mapping")
    value = error["input"]
    return text if isinstance(value, Mapping | Sequence) and not isinstance(value, str) else (
        f"{text}, not {_shown(value)}"
    )  # fmt: skip


def _shown(value: object) -> str:
    """A value as YAML writes it.

    Example:
        >>> _shown(True), _shown(None), _shown("a")
        ('true', 'null', "'a'")
    """
    return {True: "true", False: "false", None: "null"}.get(value) or repr(value)[:80]  # type: ignore[call-overload] # any value may be asked for


def _key_hint(name: str, known: Sequence[str]) -> str:
    """What to write instead of an unknown key: most often a unit is missing."""
    with_unit = [f"{name}{unit}" for unit in _UNITS if f"{name}{unit}" in known]
    if with_unit:
        return f": it needs its unit, write {' or '.join(with_unit)}"
    return hint(name, known)


def _keys(path: Path, data: Any) -> list[str]:  # noqa: ANN401
    """The keys that a recipe may have at a path."""
    schema = _resolved(schema_of_recipe(), data)
    for step in path:
        data = data[step]
        below = schema.get("items", schema.get("additionalProperties", {}))
        schema = _resolved(schema.get("properties", {}).get(step, below), data)
    return list(schema["properties"])


def _resolved(schema: Mapping[str, Any], data: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """Follow references, and of several branches the one that is meant by the data."""
    definitions = schema_of_recipe()["$defs"]
    if "discriminator" in schema:
        reference = schema["discriminator"]["mapping"][data["kind"]]
        return definitions[reference.rsplit("/", 1)[-1]]
    for branch in schema.get("anyOf", [schema]):
        if "$ref" in branch:
            return definitions[branch["$ref"].rsplit("/", 1)[-1]]
    return schema


@cache
def schema_of_recipe() -> Mapping[str, Any]:
    """The JSON Schema of a recipe."""
    return Recipe.model_json_schema()
